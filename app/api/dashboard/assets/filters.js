// Filters as a form whose fields go into the address: `[data-submits]` sends it when changed, empty fields stay out of the
// address, and `[data-moment]` is a time in the viewer's zone, in the address with its offset.

export function enhance(form) {
  for (const field of form.querySelectorAll("[data-moment]")) {
    const moment = new Date(field.value);
    if (field.value && Number.isNaN(moment.valueOf())) continue;
    const value = field.value && local(moment);
    field.value = "";
    field.type = "datetime-local";
    field.value = value;
  }
  form.addEventListener("change", ({ target }) => target.matches("[data-submits]") && form.requestSubmit());
  form.addEventListener("formdata", ({ formData }) => {
    for (const field of form.querySelectorAll("[data-moment]")) {
      if (field.type === "datetime-local" && field.value) formData.set(field.name, new Date(field.value).toISOString());
    }
    for (const [name, value] of [...formData]) if (value === "") formData.delete(name);
  });
}

function local(moment) {
  return new Date(moment - moment.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}
