// Formulas and figures that are wider than the page scroll by themselves; with the keyboard, too.
const wide = "mjx-container[display], .bd-content figure, details.case > div";

function reach() {
  for (const part of document.querySelectorAll(wide)) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  }
}

// Pictures have a width once they are loaded, and what is folded away once it is opened.
for (const event of ["load", "toggle"]) document.addEventListener(event, reach, true);
addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  reach();
});
