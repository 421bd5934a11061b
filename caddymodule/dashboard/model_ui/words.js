// Language, theme and what the browser remembers of the reader's choices.

export const config = JSON.parse(document.getElementById("config").textContent);
export const $ = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
	const e = document.createElement(name);
	for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
	e.append(...children);
	return e;
}

// Storage can be forbidden (private windows, embedded pages): then choices last for the visit.
export function recall(key) {
	try { return localStorage.getItem("model_ui." + key); } catch { return null; }
}
export function remember(key, value) {
	try { localStorage.setItem("model_ui." + key, value); } catch { /* as above */ }
}

let lang = recall("lang") ?? document.documentElement.lang;
if (!config.strings[lang]) lang = "en";

export function t(key, values = {}) {
	const text = config.strings[lang][key] ?? key;
	return text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}
export const has = (key) => key in config.strings.en;
export const number = (n) => n.toLocaleString(lang);

// onTranslate calls f when the language has changed.
const listeners = [];
export const onTranslate = (f) => listeners.push(f);

export function translate() {
	const root = document.documentElement;
	root.lang = lang;
	for (const e of document.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t);
	for (const e of document.querySelectorAll("[data-t-placeholder]")) e.placeholder = t(e.dataset.tPlaceholder);
	for (const e of document.querySelectorAll("[data-t-label]")) e.title = e.ariaLabel = t(e.dataset.tLabel);
	document.title = $("title").textContent = config.title || t(config.titleKey);
	const other = lang === "zh" ? "en" : "zh";
	$("lang").textContent = config.strings[other].name;
	$("lang").lang = $("lang").hreflang = other;
	$("lang").href = "?lang=" + other;
	for (const f of listeners) f();
}

$("lang").addEventListener("click", (event) => {
	event.preventDefault(); // without script the link asks the server; here what was typed stays
	lang = lang === "zh" ? "en" : "zh";
	remember("lang", lang);
	translate();
});

const root = document.documentElement;
if (["dark", "light"].includes(recall("theme"))) root.dataset.theme = recall("theme");
$("theme").addEventListener("click", () => {
	const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
	root.dataset.theme = now === "dark" ? "light" : "dark";
	remember("theme", root.dataset.theme);
});

// Other colours for readers who tell red from yellow badly.
function palette(safe) {
	root.dataset.palette = safe ? "safe" : "";
	$("palette").setAttribute("aria-pressed", safe);
}
palette(recall("palette") === "safe");
$("palette").addEventListener("click", () => {
	const safe = root.dataset.palette !== "safe";
	palette(safe);
	remember("palette", safe ? "safe" : "");
});
