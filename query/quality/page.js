"use strict";
(function () {
  var table = document.querySelector("table");
  var bodies = Array.prototype.slice.call(table.tBodies);
  var find = document.getElementById("find"), odd = document.getElementById("odd");
  var shown = document.getElementById("shown");
  function words(body) { return body.rows[0].textContent.toLowerCase(); }
  function show() {
    var wanted = find.value.toLowerCase(), n = 0;
    bodies.forEach(function (body) {
      var hit = (!odd.checked || body.dataset.odd === "1") && words(body).indexOf(wanted) >= 0;
      body.hidden = !hit;
      n += hit ? 1 : 0;
    });
    shown.textContent = n + " of " + bodies.length;
  }
  function value(body, column) {
    var cell = body.rows[0].cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  }
  function compare(a, b) {
    if (typeof a === typeof b) { return typeof a === "number" ? a - b : a.localeCompare(b); }
    return typeof a === "number" ? -1 : 1;
  }
  table.tHead.addEventListener("click", function (event) {
    var button = event.target.closest("button");
    if (!button) { return; }
    var head = button.parentNode, up = head.getAttribute("aria-sort") !== "ascending";
    Array.prototype.forEach.call(head.parentNode.cells, function (cell) {
      if (cell.hasAttribute("aria-sort")) { cell.setAttribute("aria-sort", "none"); }
    });
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    var column = Number(button.dataset.column);
    bodies.map(function (body, k) { return [value(body, column), k, body]; })
      .sort(function (a, b) { return (up ? 1 : -1) * compare(a[0], b[0]) || a[1] - b[1]; })
      .forEach(function (one) { table.appendChild(one[2]); });
  });
  find.addEventListener("input", show);
  odd.addEventListener("change", show);
  show();
})();
