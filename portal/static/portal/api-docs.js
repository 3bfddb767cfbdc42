// Shows the API's description. Nothing comes from elsewhere, and nothing of the page stands in it as a script.
"use strict";

(() => {
  const place = document.getElementById("api-docs");
  // What the viewer of descriptions leaves out for those who hear a page: a name for its list of servers, one main part
  // on the page only, and headings that do not skip a level.
  const mend = () => {
    place.querySelector("#servers:not([aria-label])")?.setAttribute("aria-label", place.dataset.server);
    // Another element in its place would be lost at the next drawing, so it only stops being the page's main part.
    place.querySelectorAll("main:not([role])").forEach((main) => {
      main.setAttribute("role", "region");
      main.setAttribute("aria-label", place.dataset.operations);
    });
    place.querySelectorAll("h3.opblock-tag:not([aria-level])").forEach((one) => one.setAttribute("aria-level", "2"));
    place.querySelectorAll("h4:not([aria-level])").forEach((one) => one.setAttribute("aria-level", "3"));
  };
  new MutationObserver(mend).observe(place, { childList: true, subtree: true });
  window.SwaggerUIBundle({
    url: place.dataset.schema,
    domNode: place,
    deepLinking: true,
    docExpansion: "none",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    persistAuthorization: false,
    validatorUrl: null,
    requestInterceptor: (request) => {
      if (!request.headers.Authorization) {
        request.headers["X-CSRFToken"] = place.dataset.csrf;
      }
      return request;
    },
  });
})();
