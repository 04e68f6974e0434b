// What the theme leaves out for screen readers and the keyboard: a name of the search, tables to scroll.
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
for (const table of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset table:not([class])"))
  (table.closest(".md-typeset__scrollwrap") ?? table).setAttribute("tabindex", "0");
