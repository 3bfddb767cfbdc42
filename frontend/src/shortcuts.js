// Keyboard short-cuts. They can be switched off, because single letters get in the way of speech input.
const STORED = "reading-shortcuts-off";
const FIELDS = "input:not([type=range], [type=checkbox], [type=radio]), textarea, select, [contenteditable]";
const PICTURE_ONLY = new Set(["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End", "Delete", "Backspace"]);

/**
 * Call ``actions[key]`` for a key; keys that pages scroll by count only while the picture has the focus.
 * @param {HTMLElement} stage the picture
 * @param {Record<string, Function>} actions by key; "Shift+" stands before the arrows' names
 * @param {HTMLInputElement} toggle the checkbox that switches them on and off
 */
export function listenForShortcuts(stage, actions, toggle) {
  toggle.checked = localStorage.getItem(STORED) === null;
  toggle.addEventListener("change", () => {
    if (toggle.checked) {
      localStorage.removeItem(STORED);
    } else {
      localStorage.setItem(STORED, "1");
    }
  });
  const listen = (event) => {
    const isTyping = event.target.closest(FIELDS) || document.querySelector("dialog[open]");
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) {
      return;
    }
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const key = event.shiftKey && name.startsWith("Arrow") ? `Shift+${name}` : name;
    const isAtPicture = stage.contains(event.target);
    if (name.startsWith("Arrow") && event.target.closest("input")) {
      return; // a slider moves by itself
    }
    const needsPicture = PICTURE_ONLY.has(name) || key.startsWith("Shift+");
    if (!actions[key] || (!toggle.checked && !isAtPicture) || (needsPicture && !isAtPicture)) {
      return;
    }
    event.preventDefault();
    actions[key]();
  };
  // On the way down: the picture's own listeners (viewer.js) let no key through.
  document.addEventListener("keydown", listen, { capture: true });
}
