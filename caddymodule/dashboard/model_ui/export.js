// The answer in forms to take away.

import {element} from "./words.js";
import {highlight, percent} from "./render.js";
import {writeCSV} from "./rows.js";

const style = `body{font:1.1rem/2.2 system-ui,sans-serif;max-width:50em;margin:2em auto;color:#16161f;background:#fff}
.marked{white-space:pre-wrap}.ner{color:inherit;padding:.1em .2em;border-bottom:3px solid #777;background:#eee}
.ner .ner{background:none}.ner[data-label]::after{content:attr(data-label);font:700 .6em monospace;margin-left:.4em}
.ner-PER{background:#ffd6d6;border-color:#c81e1e}.ner-LOC{background:#c8f4fb;border-bottom:3px dashed #00788c}.ner-ORG{background:#fff4b3;border-bottom:3px double #8a6d00}`;

// toHTML is a document that stands alone: no script, nothing to load.
export function toHTML({text, entities}) {
	const marked = highlight(text, entities);
	for (const mark of marked.querySelectorAll("mark")) mark.removeAttribute("data-n");
	return `<!doctype html>\n<meta charset="utf-8">\n<style>${style}</style>\n${marked.outerHTML}\n`;
}

// toBIO has a line for each character, as CoNLL files for Chinese do, and an
// empty line for each line break. Of entities within others it has the outermost.
export function toBIO({text, entities}) {
	const tags = new Map();
	let end = 0;
	for (const e of entities) {
		if (e.start < end) continue;
		for (let i = e.start; i < e.end; i++) tags.set(i, (i === e.start ? "B-" : "I-") + e.type);
		end = e.end;
	}
	let at = 0, out = "";
	for (const c of text) {
		if (c === "\n") out += "\n";
		else if (c.trim()) out += `${c}\t${tags.get(at) ?? "O"}\n`;
		at += c.length;
	}
	return out;
}

// toCSV has a row for each entity, or for each label.
export function toCSV(answer) {
	if (answer.labels) return writeCSV([["label", "score"], ...answer.labels]);
	return writeCSV([["type", "start", "end", "span", "prob"], ...answer.entities.map((e) => [e.type, e.from, e.to, e.span, e.prob ?? ""])]);
}

const quote = (s) => "'" + s.replaceAll("'", "'\\''") + "'"; // for POSIX shells

export const toCurl = (api, text) => `curl -H 'Content-Type: application/json' -d ${quote(JSON.stringify({text}))} ${quote(api.href)}`;

// save hands the browser a file made here.
export function save(name, type, text) {
	const link = element("a", {href: URL.createObjectURL(new Blob([text], {type})), download: name});
	link.click();
	setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// describe is the answer in a sentence, for screen readers.
export function describe(answer, t) {
	if (answer.labels) return answer.best[0] + " " + percent(answer.best[1]);
	const some = answer.entities.slice(0, 10).map((e) => `${e.span} ${e.type}`).join(", ");
	return t("entities", {n: answer.entities.length}) + (some ? ": " + some : "");
}
