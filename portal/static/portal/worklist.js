// Choosing studies in the worklist. Without this file the boxes and the bar under the list work all the same; with it
// there is one box for the whole page, Shift chooses a range, Escape chooses none, and the bar appears when needed.

const form = document.querySelector("[data-worklist]");

if (form) {
  const boxes = [...form.querySelectorAll('input[name="studies"]')];
  const bar = form.querySelector("[data-bulk]");
  const count = form.querySelector("[data-count]");
  const clear = form.querySelector("[data-clear]");
  const head = form.querySelector("thead .pick");
  let last = null;

  const all = document.createElement("input");
  all.type = "checkbox";
  all.setAttribute("aria-label", bar.dataset.all);
  head.append(all);
  const above = document.createElement("label");
  above.className = "choice bulk__all";
  const allAbove = all.cloneNode();
  allAbove.removeAttribute("aria-label");
  above.append(allAbove, bar.dataset.all);
  form.prepend(above);

  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    for (const box of [all, allAbove]) {
      box.checked = chosen === boxes.length;
      box.indeterminate = chosen > 0 && chosen < boxes.length;
    }
    bar.classList.toggle("bulk--idle", chosen === 0);
    clear.hidden = chosen === 0;
    count.textContent = chosen === 1 ? count.dataset.one : count.dataset.many.replace("{count}", chosen);
    for (const box of boxes) {
      box.closest("tr").classList.toggle("is-chosen", box.checked);
    }
  };

  for (const box of [all, allAbove]) {
    box.addEventListener("change", () => {
      for (const one of boxes) {
        one.checked = box.checked;
      }
      show();
    });
  }

  // A click with Shift, or the space bar with Shift, carries the state of the box over to all since the last one.
  form.addEventListener("click", (event) => {
    const box = event.target.closest('input[name="studies"]');
    if (!box) {
      return;
    }
    if (event.shiftKey && last) {
      const [from, to] = [boxes.indexOf(last), boxes.indexOf(box)].sort((a, b) => a - b);
      for (const one of boxes.slice(from, to + 1)) {
        one.checked = box.checked;
      }
    }
    last = box;
    show();
  });

  const none = () => {
    for (const box of boxes) {
      box.checked = false;
    }
    show();
  };
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && boxes.some((box) => box.checked)) {
      none();
    }
  });
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    none();
    boxes[0].focus();
  });

  // Browsers keep ticked boxes when one comes back to the page.
  window.addEventListener("pageshow", show);
  show();
}
