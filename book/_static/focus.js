// Formulas and figures that are wider than the page scroll by themselves; with the keyboard, too.
const wide = "mjx-container[display], .bd-content figure, details.case > div";

function reach() {
  for (const part of document.querySelectorAll(wide)) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
  }
}

addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  reach();
});
addEventListener("toggle", reach, true); // what was folded away had no width
