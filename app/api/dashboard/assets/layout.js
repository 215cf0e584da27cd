// The frame: the drawer of narrow screens, and the theme, which the server reads from a cookie so that nothing flashes.

const root = document.documentElement;
const YEAR = 31536000;

document.addEventListener("click", ({ target }) => {
  if (target.closest?.("[data-drawer]")) setDrawer(!document.body.classList.contains("drawer-open"));
  const theme = target.closest?.("[data-set-theme]")?.dataset.setTheme;
  if (theme) setTheme(theme);
});
document.addEventListener("keydown", ({ key }) => key === "Escape" && setDrawer(false));

function setDrawer(isOpen) {
  if (document.body.classList.contains("drawer-open") === isOpen) return;
  document.body.classList.toggle("drawer-open", isOpen);
  const toggle = document.querySelector(".drawer-toggle");
  toggle?.setAttribute("aria-expanded", isOpen);
  if (isOpen) document.querySelector(".sidebar a")?.focus();
  else toggle?.focus();
}

function setTheme(theme) {
  root.dataset.theme = theme;
  document.cookie = `doorbell_theme=${theme}; path=/; max-age=${YEAR}; samesite=lax`;
  for (const button of document.querySelectorAll("[data-set-theme]")) {
    button.setAttribute("aria-pressed", button.dataset.setTheme === theme);
  }
  document.dispatchEvent(new CustomEvent("theme", { detail: theme }));
}
