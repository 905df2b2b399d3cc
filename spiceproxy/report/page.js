"use strict";
// Details where the pointer or the focus is, and a chart that can be made larger and dragged.
const hover = document.getElementById("hover");
const details = new WeakMap();

for (const shape of document.querySelectorAll("svg .tip")) {
  const title = shape.querySelector(":scope > title");
  if (!title) continue;
  details.set(shape, title.textContent);
  shape.setAttribute("aria-label", title.textContent);
  title.remove(); // or the browser would show it as well
}

function show(target, x, y) {
  const shape = target instanceof Element ? target.closest(".tip") : null;
  const text = shape && details.get(shape);
  hover.hidden = !text;
  if (!text) return;
  hover.textContent = text;
  const box = hover.getBoundingClientRect();
  hover.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
  hover.style.top = `${y + 18 + box.height > innerHeight ? Math.max(4, y - box.height - 10) : y + 18}px`;
}

document.addEventListener("pointermove", (event) => show(event.target, event.clientX, event.clientY));
document.addEventListener("focusin", (event) => {
  const box = event.target.getBoundingClientRect();
  show(event.target, box.right, box.bottom - 18);
});
document.addEventListener("focusout", () => { hover.hidden = true; });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hover.hidden = true; });

for (const viewer of document.querySelectorAll(".viewer")) {
  const stage = viewer.querySelector(".stage");
  const picture = stage.querySelector("svg");
  const shown = viewer.querySelector("output");
  let scale = 1;

  function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
    const next = factor ? Math.min(8, Math.max(0.5, scale * factor)) : 1;
    const left = (stage.scrollLeft + x) * next / scale - x;
    const top = (stage.scrollTop + y) * next / scale - y;
    scale = next;
    picture.style.width = `${scale * 100}%`;
    stage.scrollTo(left, top);
    shown.value = `${Math.round(scale * 100)} %`;
  }

  for (const button of viewer.querySelectorAll("button")) {
    button.addEventListener("click", () => zoom(Number(button.value)));
  }
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const factor = { "+": 1.25, "=": 1.25, "-": 0.8, "0": 0 }[event.key];
    if (factor === undefined || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    zoom(factor);
  });
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.pointerType !== "mouse" || event.target.closest("text")) return; // text is for selecting
    stage.setPointerCapture(event.pointerId);
    stage.classList.add("held");
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.classList.contains("held")) stage.scrollBy(-event.movementX, -event.movementY);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, () => stage.classList.remove("held"));
  }
}
