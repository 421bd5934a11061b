// What an answer looks like. Everything from the network enters the page as
// text nodes or attributes set through the DOM, never as mark-up.

import {element, number, t} from "./words.js";
import {kind} from "./shapes.js";

// What the reader hid stays hidden in the next answer.
export const view = {hidden: new Set(), least: 0};
const shown = (e) => !view.hidden.has(e.type) && !(e.prob < view.least);

export const percent = (p) => (100 * p).toFixed(p > 0.9995 || p < 0.0005 ? 0 : 1) + " %";

// levels gives each entity the number of entities within it, one in another: so
// many lines must fit between the text and its own.
function levels(entities) {
	const height = entities.map(() => 0);
	for (let i = entities.length - 1; i >= 0; i--) {
		for (let j = i + 1; j < entities.length && entities[j].start < entities[i].end; j++) {
			height[i] = Math.max(height[i], height[j] + 1);
		}
	}
	return height;
}

// highlight returns the text with its entities marked: cut at every boundary,
// so that marks nest properly however the entities overlap.
export function highlight(text, entities) {
	const box = element("p", {class: "marked", dir: "auto", lang: "zh"});
	const cuts = [...new Set([0, text.length, ...entities.flatMap((e) => [e.start, e.end])])].sort((a, b) => a - b);
	const height = levels(entities);
	let open = [], next = 0; // the entities over the present piece, by index
	for (let i = 0; i + 1 < cuts.length; i++) {
		const [start, end] = [cuts[i], cuts[i + 1]];
		open = open.filter((n) => entities[n].end > start);
		while (next < entities.length && entities[next].start === start) open.push(next++);
		let node = document.createTextNode(text.slice(start, end));
		for (const n of open.toReversed()) {
			const e = entities[n];
			const mark = element("mark", {class: "ner ner-" + kind(e.type), "data-type": e.type, "data-n": n, title: title(e)}, node);
			if (e.prob !== undefined) mark.dataset.score = e.prob;
			if (height[n]) mark.dataset.height = Math.min(4, height[n]);
			if (e.start === start) mark.classList.add("first");
			if (e.end === end) {
				mark.classList.add("last");
				mark.dataset.label = e.type; // drawn by CSS: copied text stays clean
			}
			node = mark;
		}
		box.append(node);
	}
	return box;
}

const title = (e) => e.type + (e.prob === undefined ? "" : " " + percent(e.prob));

// entityView is the whole answer of an NER model: legend, marked text, table.
export function entityView({text, entities, dropped}) {
	const box = element("div");
	const marked = highlight(text, entities);
	box.append(legend(entities, box), marked);
	if (!entities.length) box.append(element("p", {class: "dim"}, t("none")));
	if (dropped) box.append(element("p", {class: "dim"}, t("unplaced", {n: dropped})));
	if (entities.length) box.append(table(entities, box));
	box.addEventListener("pointerover", (event) => {
		point(box, event.target.closest?.("[data-n]")?.dataset.n);
	});
	box.addEventListener("pointerleave", () => point(box));
	filter(box, entities);
	return box;
}

// filter shows only what the reader wants to see.
function filter(box, entities) {
	for (const e of box.querySelectorAll("[data-n]")) {
		const visible = shown(entities[e.dataset.n]);
		e.classList.toggle("off", !visible);
		if (e.localName === "tr") e.hidden = !visible;
	}
}

// point connects an entity's marks and its row in the table.
function point(box, n) {
	for (const e of box.querySelectorAll(".here")) e.classList.remove("here");
	if (n !== undefined) for (const e of box.querySelectorAll(`[data-n="${Number(n)}"]`)) e.classList.add("here");
}

function legend(entities, box) {
	const counts = new Map();
	for (const e of entities) counts.set(e.type, (counts.get(e.type) ?? 0) + 1);
	const bar = element("div", {class: "legend", role: "group", "aria-label": t("legend")});
	for (const [type, n] of counts) {
		const name = kind(type)[0] === "x" ? "" : " " + t(kind(type));
		const button = element("button", {
			type: "button", class: "ner ner-" + kind(type), "data-type": type, "aria-pressed": !view.hidden.has(type), title: t("toggle", {type}),
		}, `${type}${name} · ${number(n)}`);
		button.addEventListener("click", () => {
			if (!view.hidden.delete(type)) view.hidden.add(type);
			button.setAttribute("aria-pressed", !view.hidden.has(type));
			filter(box, entities);
		});
		const dim = (on) => () => {
			for (const mark of box.querySelectorAll("mark")) mark.classList.toggle("faint", on && mark.dataset.type !== type && !mark.querySelector(`[data-type="${CSS.escape(type)}"]`));
		};
		for (const event of ["pointerenter", "focus"]) button.addEventListener(event, dim(true));
		for (const event of ["pointerleave", "blur"]) button.addEventListener(event, dim(false));
		bar.append(button);
	}
	if (entities.some((e) => e.prob !== undefined)) bar.append(slider(box, entities));
	return bar;
}

function slider(box, entities) {
	const output = element("output", {}, percent(view.least));
	const input = element("input", {type: "range", min: 0, max: 100, step: 1, value: 100 * view.least});
	input.addEventListener("input", () => {
		view.least = input.valueAsNumber / 100;
		output.textContent = percent(view.least);
		filter(box, entities);
	});
	return element("label", {class: "least"}, t("least") + " ", input, output);
}

function table(entities, box) {
	const head = element("tr", {}, ...["entity", "type", "position", "probability"].map((k) => element("th", {scope: "col"}, t(k))));
	const rows = entities.map((e, n) => {
		const find = element("button", {type: "button", class: "find", lang: "zh", title: t("find")}, e.span);
		find.addEventListener("click", () => {
			point(box, n);
			box.querySelector(`mark[data-n="${n}"]`)?.scrollIntoView({block: "center"});
		});
		find.addEventListener("focus", () => point(box, n));
		return element("tr", {"data-n": n},
			element("td", {}, find), element("td", {}, e.type), element("td", {}, `${e.from}–${e.to}`),
			element("td", {}, e.prob === undefined ? "" : percent(e.prob)));
	});
	return element("div", {class: "scroll"}, element("table", {}, element("caption", {class: "sr-only"}, t("entities_found")), element("thead", {}, head), element("tbody", {}, ...rows)));
}

// The bars are coloured by what a label says; the words beside them say it too.
const positive = /^(positive|pos|正面|积极|label_1|1)$/i;
const negative = /^(negative|neg|负面|消极|label_0|0)$/i;
export const mood = (label) => positive.test(label) ? "good" : negative.test(label) ? "bad" : "plain";

// labelView is the whole answer of a classifier: the label, then a bar for each.
export function labelView({labels, best: [best, score]}) {
	const bars = element("div", {class: "bars"});
	for (const [label, value] of labels) {
		const fill = element("div", {class: "fill " + mood(label)});
		fill.style.width = 100 * Math.min(1, Math.max(0, value || 0)) + "%"; // the CSSOM, which the policy allows
		bars.append(element("span", {}, label), element("div", {class: "track", "aria-hidden": "true"}, fill), element("span", {class: "number"}, percent(value)));
	}
	const mark = {good: "▲ ", bad: "▼ "}[mood(best)] ?? "";
	return element("div", {}, element("p", {class: "verdict " + mood(best), "data-label": best},
		element("span", {"aria-hidden": "true"}, mark), best + " ", element("span", {class: "number"}, percent(score))), bars);
}
