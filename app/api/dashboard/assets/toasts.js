// Short messages at the corner: `toast(message, kind)`, or the server's `HX-Trigger: {"toast": {...}}`.

const SHOWN_FOR = 6000;

export function toast(message, kind = "success") {
  const template = document.getElementById(`toast-${kind}`) ?? document.getElementById("toast-success");
  const shown = template.content.firstElementChild.cloneNode(true);
  shown.querySelector("p").textContent = message;
  shown.querySelector("button").addEventListener("click", () => shown.remove());
  document.querySelector(".toasts").append(shown);
  // Errors stay until they are read.
  if (kind !== "error") setTimeout(() => shown.remove(), SHOWN_FOR);
}

// What the page before wanted to say.
export function announceStored() {
  const stored = document.querySelector("[data-flash]");
  if (stored) toast(stored.dataset.flash);
}

document.addEventListener("toast", ({ detail }) => toast(detail.message, detail.kind));
