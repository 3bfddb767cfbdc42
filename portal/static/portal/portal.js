// Two small helps on top of pages that work without them.
"use strict";

// A part of a page that asks for news after the session has ended gets the log-in page as its answer. Show that page
// as a page, with the way back, instead of a form squeezed into the corner that asked.
document.addEventListener("htmx:beforeSwap", (event) => {
  const answeredBy = event.detail.xhr.responseURL;
  const loginPath = document.body.dataset.loginPath;
  if (answeredBy && loginPath && new URL(answeredBy).pathname === loginPath) {
    event.detail.shouldSwap = false;
    window.location.assign(`${loginPath}?next=${encodeURIComponent(window.location.pathname)}`);
  }
});

// The account menu closes on Escape and on a click elsewhere, as people expect of a menu.
const account = document.querySelector("details.account");
if (account) {
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && account.open) {
      account.open = false;
      account.querySelector("summary").focus();
    }
  });
  document.addEventListener("click", (event) => {
    if (!account.contains(event.target)) {
      account.open = false;
    }
  });
}
