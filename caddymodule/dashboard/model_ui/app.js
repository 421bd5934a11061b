// The page: a text is typed, the model asked, its answer shown.

import {$, config, element, number, onTranslate, recall, remember, t, translate} from "./words.js";
import {ask, pause, unknown} from "./ask.js";
import {read} from "./shapes.js";
import {entityView, labelView} from "./render.js";
import {showLatency} from "./latency.js";
import {describe, save, toBIO, toCSV, toCurl, toHTML} from "./export.js";
import * as batch from "./batch.js";

const tries = 3;    // automatic ones, after failures that may pass
const pauseMs = 300; // without a key before the page asks by itself

// ---- models

let model = config.models[0];
const api = () => new URL(model.api, document.baseURI);

for (const [i, m] of config.models.entries()) {
	const choice = $("model-" + i);
	choice?.addEventListener("change", () => {
		batch.cancel();
		model = m;
		examples();
		$("text").value.trim() ? analyse() : forget();
	});
	if (choice?.checked) model = m; // what the browser kept over a reload of the page
}

function examples() {
	$("examples").replaceChildren(...model.examples.map((text) => {
		const button = element("button", {type: "button", class: "example", lang: "zh"}, text);
		button.addEventListener("click", () => {
			$("text").value = text;
			count();
			analyse();
		});
		return button;
	}));
}

// ---- input

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
$("keys").textContent = isMac ? "⌘↵" : "Ctrl+Enter";
$("text").addEventListener("keydown", (event) => {
	if (event.isComposing) return; // the keys belong to the input method
	if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
		event.preventDefault();
		analyse();
	} else if (event.key === "Escape" && current) {
		stop();
	}
});
$("text").addEventListener("input", (event) => {
	count();
	if (!event.isComposing) soon();
});
// What an input method shows before a choice is made is no text yet.
$("text").addEventListener("compositionstart", () => clearTimeout(typing));
$("text").addEventListener("compositionend", () => soon());
$("form").addEventListener("submit", (event) => {
	event.preventDefault();
	analyse();
});
$("retry").addEventListener("click", () => analyse());
$("cancel").addEventListener("click", () => {
	stop();
	$("text").focus(); // the button that had the focus goes away
});

let typing; // the pause after a key

$("live").checked = recall("live") !== "off";
$("live").addEventListener("change", () => {
	remember("live", $("live").checked ? "on" : "off");
	if ($("live").checked) soon();
	else clearTimeout(typing);
});

function soon() {
	clearTimeout(typing);
	if (!$("live").checked) return;
	typing = setTimeout(() => {
		const text = $("text").value;
		if (!text.trim()) return forget();
		if (tooLong() || text === (current?.text ?? last?.asked) && !problem) return;
		analyse();
	}, pauseMs);
}

const chars = () => { let n = 0; for (const _ of $("text").value) n++; return n; };
const tooLong = () => config.maxChars > 0 && chars() > config.maxChars;

function count() {
	const n = chars();
	$("count").textContent = config.maxChars ? t("chars_of", {n: number(n), max: number(config.maxChars)}) : t("chars", {n: number(n)});
	$("count").classList.toggle("bad", tooLong());
}

// A file dropped anywhere: tables go to the batch, other text into the field.
addEventListener("dragover", (event) => {
	if (event.dataTransfer.types.includes("Files")) event.preventDefault();
});
addEventListener("drop", (event) => {
	const [file] = event.dataTransfer.files;
	if (!file) return; // dragged text, which the browser drops by itself
	event.preventDefault();
	$("batch").open = true;
	$("batch").scrollIntoView();
	batch.open(file);
});

// ---- the address: a text can be linked to in the fragment, which browsers
// send to nobody.

function fromFragment() {
	const linked = new URLSearchParams(location.hash.slice(1)).get("text");
	if (linked === null) return;
	$("text").value = linked;
	count();
	analyse();
}
addEventListener("hashchange", fromFragment);

// ---- asking

let current = null; // the request or the wait for the next one
let last = null;    // the answer shown
let problem = null; // the failure shown

function stop() {
	current?.controller.abort();
	current = null;
	clearTimeout(typing);
	clearInterval(ticker);
	$("problem-wait").textContent = "";
	busy(false);
}

// forget takes the page back to how it was before anything was asked.
function forget() {
	stop();
	last = problem = null;
	$("result").hidden = $("problem").hidden = true;
}

function busy(on) {
	$("cancel").hidden = !on;
	$("result").ariaBusy = on;
	$("result").classList.toggle("stale", on);
}

async function analyse(attempt = 1) {
	stop();
	const text = $("text").value;
	if (!text.trim()) return fail({key: "e_empty"});
	if (tooLong()) return fail({key: "e_long", values: {max: number(config.maxChars)}});
	const mine = current = {controller: new AbortController(), text};
	busy(true);
	let answer = await ask(api(), {text}, mine.controller.signal);
	if (mine !== current) return; // a newer request or the reader took over
	const found = answer.key ? null : read(answer.json, text);
	if (found) {
		stop();
		problem = null;
		$("problem").hidden = true;
		return showAnswer(last = {...answer, asked: text, found, api: api(), attempts: attempt});
	}
	if (!answer.key) answer = unknown(answer.json);
	fail(answer);
	if (answer.again && attempt < tries) return waitThenRetry(answer, attempt, mine);
	stop();
}

// ---- failures

let ticker;

function fail(what) {
	problem = what;
	showProblem(what);
}

function showProblem(what) {
	$("problem-text").textContent = t(what.key, what.values);
	$("problem-detail").textContent = what.detail ?? "";
	$("retry").hidden = what.key === "e_empty" || what.key === "e_long";
	$("problem").hidden = false;
}

function waitThenRetry(what, attempt, mine) {
	let left = Math.ceil(pause(what, attempt));
	const tick = () => {
		if (mine !== current) return clearInterval(ticker);
		if (left-- > 0) return void ($("problem-wait").textContent = t("waiting", {n: left + 1}));
		clearInterval(ticker);
		$("problem-wait").textContent = t("asking_again");
		analyse(attempt + 1);
	};
	ticker = setInterval(tick, 1000);
	tick();
}

// ---- answers

function showAnswer(answer) {
	const {found} = answer;
	$("answer").replaceChildren(found.labels ? labelView(found) : entityView(found));
	$("summary").textContent = describe(found, t);
	const views = {
		json: JSON.stringify(answer.json, null, 2), curl: toCurl(answer.api, answer.asked), csv: toCSV(found),
		html: found.labels ? "" : toHTML(found), bio: found.labels ? "" : toBIO(found),
	};
	for (const [name, text] of Object.entries(views)) {
		$("view-" + name).textContent = text;
		$("tab-" + name).hidden = !text;
	}
	if ($("tab-" + tab).hidden) choose("answer");
	showLatency(answer);
	$("result").hidden = false;
}

// ---- tabs: arrow keys move between them, Tab goes on into the panel

const tabs = [...document.querySelectorAll("[role=tab]")];
let tab = "answer";

function choose(name) {
	tab = name;
	for (const e of tabs) {
		const on = e.id === "tab-" + name;
		e.setAttribute("aria-selected", on);
		e.tabIndex = on ? 0 : -1;
		$(e.getAttribute("aria-controls")).hidden = !on;
	}
	$("copy").hidden = name === "answer" || !navigator.clipboard;
	$("save").hidden = !(name in files);
}

const files = {json: ["json", "application/json"], html: ["html", "text/html"], csv: ["csv", "text/csv"], bio: ["bio", "text/plain"]};

for (const e of tabs) {
	e.addEventListener("click", () => choose(e.id.slice(4)));
	e.addEventListener("keydown", (event) => {
		const usable = tabs.filter((other) => !other.hidden);
		const i = usable.indexOf(e);
		const to = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: -1}[event.key];
		if (to === undefined) return;
		event.preventDefault();
		const other = usable.at(to % usable.length);
		choose(other.id.slice(4));
		other.focus();
	});
}

$("save").addEventListener("click", () => {
	const [extension, type] = files[tab];
	const mark = tab === "csv" ? "\ufeff" : ""; // tells Excel that this is UTF-8
	save("result." + extension, type + ";charset=utf-8", mark + $("view-" + tab).textContent);
});

async function copy(button, key, text) {
	try {
		await navigator.clipboard.writeText(text);
		button.textContent = t("copied");
	} catch {
		button.textContent = t("not_copied");
	}
	setTimeout(() => button.textContent = t(key), 1500);
}
// Only secure contexts have a clipboard; elsewhere the text can be selected.
$("copy").addEventListener("click", () => copy($("copy"), "copy", $("view-" + tab).textContent));
$("link").addEventListener("click", () => {
	if (!last) return;
	history.replaceState(null, "", "#" + new URLSearchParams({text: last.asked}));
	if (navigator.clipboard) copy($("link"), "link", location.href);
});

// ---- begin

onTranslate(() => {
	count();
	if (last) showAnswer(last);
	if (problem) showProblem(problem);
});
batch.setUp(api);
examples();
choose("answer");
translate();
fromFragment();
