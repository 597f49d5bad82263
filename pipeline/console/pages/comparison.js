// The tree of differing leaves. Rows are made when they are first shown, with textContent alone: no text of
// a report is ever read as mark-up. The data's shape is what comparison_page.py writes.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const tree = document.getElementById("tree");
  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const PAGE = 50; // so many rows of one place are added at a time
  const NARROW = matchMedia("(max-width: 40rem)").matches;
  const OPEN_AT_FIRST = NARROW ? 24 : 60; // so many rows are open when the page is, or after a search
  const [NAMES, LEAVES, BELOW, COUNT] = [0, 1, 2, 3];
  const [WHAT, VALUES, CAUSE, EVIDENCE] = [0, 1, 2, 3];

  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const number = (count) => count.toLocaleString("en");
  const many = (count, one) => `${number(count)} ${one}${count === 1 ? "" : "s"}`;
  const foreign = (tag, className, text) => {
    const element = make(tag, className);
    element.append(make("bdi", "", text));
    return element;
  };

  // ---- what there is: nodes of one shape for artifacts, places and leaves, made from the data when asked for
  const artifacts = data.artifacts.map((artifact) => ({ artifact, place: artifact.tree, parent: null }));
  const children = (node) => {
    if (node.leaf) return [];
    if (!node.all) {
      const [, leaves, below] = node.place;
      node.all = [
        ...leaves.map((leaf) => ({ leaf, parent: node })),
        ...below.map((place) => ({ place, parent: node })),
      ];
      const { artifact } = node;
      if (artifact?.problem) node.all.unshift({ problem: artifact.problem, parent: node });
      if (artifact) node.all.push({ facts: artifact, parent: node });
    }
    return node.all;
  };
  const opens = (node) => Boolean(node.place);

  // ---- what is shown of it: all, or what a search finds
  let matches = null; // a Set of leaves, or null for all
  let counts = null; // for places: how many leaves below are found
  const shown = (node) => {
    const all = children(node);
    if (!matches) return all;
    return all.filter((each) => (each.leaf ? matches.has(each.leaf) : each.place && counts.has(each.place)));
  };
  const roots = () => (matches ? artifacts.filter((node) => counts.has(node.place)) : artifacts);
  const count = (node) => (matches ? counts.get(node.place) : node.place[COUNT]);

  const words = new Map();
  const textOf = (leaf, above) => {
    if (!words.has(leaf)) {
      const all = [above, leaf[WHAT], ...leaf[VALUES], leaf[EVIDENCE], leaf[CAUSE] === null ? "" : data.causes[leaf[CAUSE]]];
      words.set(leaf, all.join("\n").toLowerCase());
    }
    return words.get(leaf);
  };
  const find = (accepts) => {
    matches = new Set();
    counts = new Map();
    const walk = (place, above) => {
      const way = `${above} › ${place[NAMES].join(" › ")}`;
      let sum = 0;
      for (const leaf of place[LEAVES]) {
        if (accepts(leaf, way)) {
          matches.add(leaf);
          sum += 1;
        }
      }
      for (const below of place[BELOW]) sum += walk(below, way);
      if (sum) counts.set(place, sum);
      return sum;
    };
    for (const node of artifacts) walk(node.place, node.artifact.name);
  };

  // ---- rows
  const nodeOf = new WeakMap();
  const lineOf = (li) => li.firstElementChild;

  // Marks what two or more values do not share: the words between their common beginning and end. Where
  // they share next to nothing, as two digests do, a mark would only be noise.
  const LETTER = /[\p{L}\p{N}\p{M}_]/u;
  const shared = (texts) => {
    const shortest = Math.min(...texts.map((text) => text.length));
    let head = 0;
    while (head < shortest && texts.every((text) => text[head] === texts[0][head])) head += 1;
    let tail = 0;
    while (tail < shortest - head && texts.every((text) => text.at(-1 - tail) === texts[0].at(-1 - tail))) tail += 1;
    const worth = head + tail > shortest / 4 && head < Math.max(...texts.map((text) => text.length));
    while (head && LETTER.test(texts[0][head - 1])) head -= 1;
    while (tail && LETTER.test(texts[0].at(-tail))) tail -= 1;
    return worth ? [head, tail] : null;
  };
  const marked = (values) => {
    const texts = values.filter((value) => value !== null);
    const [head, tail] = (texts.length > 1 && shared(texts)) || [0, Infinity];
    return values.map((value) => {
      const cell = make("dd");
      if (value === null) {
        cell.append(make("span", "absent", "not there"));
        return cell;
      }
      const bdi = make("bdi", "text");
      if (head + tail >= value.length) bdi.textContent = value;
      else bdi.append(value.slice(0, head), make("mark", "", value.slice(head, value.length - tail)), value.slice(value.length - tail));
      cell.append(bdi);
      return cell;
    });
  };
  const pairs = (values) => {
    const list = make("dl", "values");
    marked(values).forEach((cell, side) => list.append(make("dt", "", data.sides[side]), cell));
    return list;
  };

  const drawLeaf = (row, leaf) => {
    const what = make("div", "what");
    what.append(foreign("span", "property", `≠ ${leaf[WHAT]}`));
    const cause = leaf[CAUSE];
    what.append(cause === null ? make("span", "cause none", "unexplained") : foreign("span", "cause", data.causes[cause]));
    row.append(what);
    if (leaf[VALUES].some((value) => value !== null)) row.append(pairs(leaf[VALUES]));
    if (leaf[EVIDENCE]) row.append(foreign("p", "evidence", leaf[EVIDENCE]));
  };
  const drawFacts = (row, artifact) => {
    row.append(pairs(artifact.digests));
    for (const words of artifact.notes) row.append(foreign("p", "evidence", words));
  };
  const drawPlace = (row, node) => {
    const name = make("span", "name");
    if (node.artifact) {
      row.append(make("span", "badge", node.artifact.verdict));
      name.append(make("bdi", "", node.artifact.name));
    } else {
      node.place[NAMES].forEach((part, index) => {
        if (index) name.append(make("span", "then", " › "));
        name.append(make("bdi", "", part));
      });
    }
    row.append(name);
    const told = count(node) > 1 || (node.artifact && count(node)) ? many(count(node), "place") : "";
    const text = [node.artifact ? node.artifact.size : "", told].filter(Boolean).join(" · ");
    if (text) row.append(make("span", "count", text));
  };

  const draw = (node, level, position, size) => {
    const li = make("li", node.artifact ? `artifact ${node.artifact.tone}` : node.place ? "place" : node.facts ? "leaf facts-row" : "leaf");
    nodeOf.set(li, node);
    node.li = li;
    li.setAttribute("role", "treeitem");
    li.setAttribute("aria-level", level);
    li.setAttribute("aria-posinset", position);
    li.setAttribute("aria-setsize", size);
    li.tabIndex = -1;
    const row = make("div", "row");
    li.append(row);
    if (node.place) {
      li.setAttribute("aria-expanded", "false");
      drawPlace(row, node);
    } else if (node.problem) row.append(foreign("p", "problem", node.problem));
    else if (node.facts) drawFacts(row, node.facts);
    else drawLeaf(row, node.leaf);
    return li;
  };
  const drawMore = (owner, list, level, begin, all) => {
    const left = all.length - begin;
    const li = make("li", "more");
    li.setAttribute("role", "treeitem");
    li.setAttribute("aria-level", level);
    li.setAttribute("aria-posinset", begin + 1);
    li.setAttribute("aria-setsize", all.length);
    li.tabIndex = -1;
    const row = make("div", "row");
    row.append(make("span", "", `Show ${number(Math.min(PAGE, left))} more of ${number(left)}`));
    li.append(row);
    nodeOf.set(li, {
      parent: owner,
      more: () => {
        const was = document.activeElement === li;
        const first = fill(list, owner, level, all, begin);
        li.remove();
        if (was || current === li) focus(first, was);
      },
    });
    return li;
  };
  // Adds a page of rows to a list; returns the first of them.
  const fill = (list, owner, level, all, begin) => {
    const end = Math.min(all.length, begin + PAGE);
    const rows = document.createDocumentFragment();
    for (let index = begin; index < end; index += 1) rows.append(draw(all[index], level, index + 1, all.length));
    if (end < all.length) rows.append(drawMore(owner, list, level, end, all));
    const first = rows.firstElementChild;
    list.append(rows);
    return first;
  };

  const isOpen = (li) => li.getAttribute("aria-expanded") === "true";
  const open = (li) => {
    const node = nodeOf.get(li);
    if (!opens(node) || isOpen(li)) return;
    li.setAttribute("aria-expanded", "true");
    const group = make("ul");
    group.setAttribute("role", "group");
    fill(group, node, Number(li.getAttribute("aria-level")) + 1, shown(node), 0);
    li.append(group);
  };
  const close = (li) => {
    if (!isOpen(li)) return;
    if (li.contains(current) && current !== li) focus(li, li.contains(document.activeElement));
    li.setAttribute("aria-expanded", "false");
    li.lastElementChild.remove(); // rows that nobody sees take no memory
  };
  const toggle = (li) => {
    const node = nodeOf.get(li);
    if (node.more) node.more();
    else if (isOpen(li)) close(li);
    else open(li);
  };

  // Opens places from the top, level by level, as long as few rows come of it.
  const openSome = () => {
    let budget = OPEN_AT_FIRST;
    let level = [...tree.children];
    while (level.length) {
      const next = [];
      for (const li of level) {
        const node = nodeOf.get(li);
        if (!opens(node) || !(count(node) || node.artifact?.problem)) continue;
        const rows = Math.min(PAGE, shown(node).length);
        if (rows > budget && budget < OPEN_AT_FIRST) continue;
        budget -= rows;
        open(li);
        next.push(...li.lastElementChild.children);
      }
      level = next;
    }
  };

  // ---- one row is in the order of the Tab key, and the arrows move it
  let current = null;
  const focus = (li, really = true) => {
    if (!li) return;
    if (current) current.tabIndex = -1;
    current = li;
    li.tabIndex = 0;
    if (really) {
      li.focus({ preventScroll: true });
      lineOf(li).scrollIntoView({ block: "nearest" });
    }
  };
  const parent = (li) => li.parentElement.closest('[role="treeitem"]');
  const after = (li) => {
    if (isOpen(li)) return li.lastElementChild.firstElementChild;
    for (let at = li; at; at = parent(at)) if (at.nextElementSibling) return at.nextElementSibling;
    return null;
  };
  const last = (li) => {
    let at = li;
    while (isOpen(at)) at = at.lastElementChild.lastElementChild;
    return at;
  };
  const before = (li) => (li.previousElementSibling ? last(li.previousElementSibling) : parent(li));

  const keys = {
    ArrowDown: (li) => focus(after(li)),
    ArrowUp: (li) => focus(before(li)),
    ArrowRight: (li) => (isOpen(li) ? focus(after(li)) : toggle(li)),
    ArrowLeft: (li) => (isOpen(li) ? close(li) : focus(parent(li))),
    Home: () => focus(tree.firstElementChild),
    End: () => focus(last(tree.lastElementChild)),
    Enter: toggle,
    " ": toggle,
    "*": (li) => [...li.parentElement.children].forEach(open),
  };
  tree.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !keys[event.key]) return;
    const li = event.target.closest('[role="treeitem"]');
    if (!li) return;
    event.preventDefault();
    keys[event.key](li);
  });
  tree.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (!row || String(getSelection())) return; // whoever selects text does not mean to open anything
    const li = row.parentElement;
    focus(li);
    toggle(li);
  });
  tree.addEventListener("focusin", (event) => {
    const li = event.target.closest('[role="treeitem"]');
    if (li && li !== current) focus(li, false);
  });

  // ---- search
  const buttons = [...document.querySelectorAll("button.show")];
  const total = artifacts.reduce((sum, node) => sum + node.place[COUNT], 0);
  const refresh = (told) => {
    current = null;
    tree.replaceChildren();
    const all = roots();
    fill(tree, null, 1, all, 0);
    openSome();
    focus(tree.firstElementChild, false);
    tree.hidden = !all.length;
    found.textContent = told;
  };
  const showAll = () => {
    matches = counts = null;
    const whole = total + data.omitted;
    if (data.omitted) refresh(`${number(total)} of ${many(whole, "place")} are listed here`);
    else refresh(total ? many(total, "place") : "");
  };
  const showFound = (accepts, of) => {
    find(accepts);
    refresh(`${number(matches.size)} of ${many(total, "place")} ${of}`);
  };
  const press = (button) => buttons.forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
  const searched = () => {
    press(null);
    const wanted = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    if (!wanted.length) showAll();
    else showFound((leaf, way) => wanted.every((word) => textOf(leaf, way).includes(word)), "found");
  };
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(searched, 120);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      clearTimeout(waiting);
      search.value = "";
      searched();
      focus(current);
    } else if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      clearTimeout(waiting);
      searched();
      focus(current);
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.altKey || event.metaKey || event.target === search) return;
    event.preventDefault();
    search.focus();
    search.select();
  });
  for (const button of buttons) {
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const cause = button.dataset.cause === "" ? null : Number(button.dataset.cause);
      const pressed = button.getAttribute("aria-pressed") === "true";
      search.value = "";
      press(pressed ? null : button);
      if (pressed) showAll();
      else showFound((leaf) => leaf[CAUSE] === cause, cause === null ? "unexplained" : `of cause ${data.causes[cause]}`);
      tree.scrollIntoView({ block: "nearest" });
    });
  }

  document.documentElement.classList.add("live");
  document.querySelector(".tools").hidden = !total;
  showAll();
})();
