// The page is rendered by the gateway. Each event brings what it looks like
// now; only what differs is put in, so that focus, open details and selected
// text stay.

const live = document.getElementById("live");
const lost = document.getElementById("lost");
const pause = document.getElementById("pause");
const text = document.body.dataset;

let source, shown = new Date();

function connect() {
	source = new EventSource("events?lang=" + encodeURIComponent(text.lang));
	source.onmessage = (event) => {
		lost.hidden = true;
		shown = new Date();
		const next = document.createElement("template");
		next.innerHTML = JSON.parse(event.data);
		const before = states(live), after = states(next.content);
		children(live, next.content);
		tell(before, after);
	};
	source.onerror = () => { // the browser connects again by itself, unless it was told not to
		say(text.lost.replace("{time}", shown.toLocaleTimeString(text.lang)));
		if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
	};
}

const states = (root) => new Map([...root.querySelectorAll("tr[data-state]")].map((row) => [row.dataset.key, row.dataset.state]));

// tell has screen readers say which nodes changed their state.
function tell(before, after) {
	const news = [...after].filter(([node, state]) => before.has(node) && before.get(node) !== state);
	if (news.length) document.getElementById("news").textContent = news.map(([node, state]) => `${node} ${state}`).join("; ");
}

function say(message) {
	lost.textContent = message;
	lost.hidden = false;
}

// children makes the children of one element those of another.
function children(old, next) {
	const keyed = new Map();
	for (const e of old.children) if (e.dataset.key) keyed.set(e.localName + e.dataset.key, e);
	let at = old.firstChild;
	for (const node of [...next.childNodes]) {
		let same = node.dataset?.key ? keyed.get(node.localName + node.dataset.key) : at;
		if (same && !node.dataset?.key && (same.nodeType !== node.nodeType || same.nodeName !== node.nodeName || same.dataset?.key)) same = undefined;
		if (!same) {
			old.insertBefore(node, at);
			continue;
		}
		if (same === at) at = at.nextSibling;
		else old.insertBefore(same, at);
		if (node.nodeType !== Node.ELEMENT_NODE) {
			if (same.data !== node.data) same.data = node.data;
			continue;
		}
		attributes(same, node);
		children(same, node);
	}
	while (at) {
		const after = at.nextSibling;
		at.remove();
		at = after;
	}
}

function attributes(old, next) {
	for (const {name, value} of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
	for (const {name} of [...old.attributes]) {
		if (!next.hasAttribute(name) && !(name === "open" && old.localName === "details")) old.removeAttribute(name);
	}
}

const sending = new Set();

// Orders go in the background; without script the form sends them.
live.addEventListener("submit", async (event) => {
	event.preventDefault();
	const form = event.target;
	if (sending.has(form)) return;
	sending.add(form); // a disabled button would lose the focus
	const body = new URLSearchParams(new FormData(form));
	body.set("order", event.submitter.value);
	try {
		const response = await fetch("orders", {method: "POST", body, headers: {"X-Requested-With": "fetch"}});
		if (!response.ok) {
			let {error} = await response.json().catch(() => ({error: response.status}));
			say(text.failed + " " + error);
		}
	} catch (error) {
		say(text.failed + " " + error.message);
	} finally {
		sending.delete(form);
	}
});

pause.addEventListener("click", () => {
	if (source) {
		source.close();
		source = undefined;
	} else {
		connect();
	}
	pause.textContent = source ? text.pause : text.go;
	pause.setAttribute("aria-pressed", !source);
});

// Storage can be forbidden: then the choice lasts for the visit.
const root = document.documentElement;
try { root.dataset.theme = localStorage.getItem("gpu_dashboard.theme") ?? ""; } catch { /* as above */ }
document.getElementById("theme").addEventListener("click", () => {
	const dark = root.dataset.theme ? root.dataset.theme === "dark" : !matchMedia("(prefers-color-scheme: light)").matches;
	root.dataset.theme = dark ? "light" : "dark";
	try { localStorage.setItem("gpu_dashboard.theme", root.dataset.theme); } catch { /* as above */ }
});

connect();
