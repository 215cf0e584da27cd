// Fields that somebody is filling in, in an element with `data-keep` and an id, stay when the page around them comes anew.

function isBeingFilledIn(element) {
  const isChanged = (field) => field.checked !== field.defaultChecked || field.value !== field.defaultValue;
  return element.contains(document.activeElement) || [...element.querySelectorAll("input")].some(isChanged);
}

document.addEventListener("htmx:oobBeforeSwap", ({ detail }) => {
  for (const kept of detail.target.querySelectorAll("[data-keep]")) {
    if (isBeingFilledIn(kept)) detail.fragment.querySelector(`#${kept.id}`)?.setAttribute("hx-preserve", "true");
  }
});
