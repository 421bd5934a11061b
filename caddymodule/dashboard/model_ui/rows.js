// Files of many texts: CSV and JSON Lines in, CSV out.

// decode returns the text of a file and the encoding found. Excel in China saves
// CSV in GBK, of which GB18030 is the superset.
export function decode(bytes) {
	const [a, b, c] = bytes;
	if (a === 0xef && b === 0xbb && c === 0xbf) return {text: new TextDecoder("utf-8").decode(bytes), encoding: "UTF-8"};
	if (a === 0xff && b === 0xfe) return {text: new TextDecoder("utf-16le").decode(bytes), encoding: "UTF-16"};
	if (a === 0xfe && b === 0xff) return {text: new TextDecoder("utf-16be").decode(bytes), encoding: "UTF-16"};
	try {
		return {text: new TextDecoder("utf-8", {fatal: true}).decode(bytes), encoding: "UTF-8"};
	} catch {
		return {text: new TextDecoder("gb18030").decode(bytes), encoding: "GB18030"};
	}
}

// parseCSV reads RFC 4180: fields in quotes may hold the delimiter, line breaks
// and doubled quotes. Lone CR and LF end lines too; empty lines are none.
export function parseCSV(text, delimiter = sniff(text)) {
	const rows = [];
	let row = [], field = "", quoted = false, wasQuoted = false;
	const endField = () => {
		row.push(field);
		field = "";
		wasQuoted = false;
	};
	const endRow = () => {
		const empty = !row.length && field === "" && !wasQuoted;
		endField();
		if (!empty) rows.push(row);
		row = [];
	};
	for (let i = 0; i < text.length; i++) {
		const c = text[i];
		if (quoted) {
			if (c !== '"') field += c;
			else if (text[i + 1] === '"') field += text[++i];
			else quoted = false;
		} else if (c === '"' && field === "" && !wasQuoted) quoted = wasQuoted = true;
		else if (c === delimiter) endField();
		else if (c === "\r" || c === "\n") {
			if (c === "\r" && text[i + 1] === "\n") i++;
			endRow();
		} else field += c;
	}
	endRow();
	return rows;
}

// sniff takes the delimiter that the first line has most of, outside quotes.
function sniff(text) {
	const counts = {",": 0, "\t": 0, ";": 0};
	let quoted = false;
	for (const c of text) {
		if (c === '"') quoted = !quoted;
		else if (!quoted && (c === "\n" || c === "\r")) break;
		else if (!quoted && c in counts) counts[c]++;
	}
	return Object.keys(counts).reduce((a, b) => counts[b] > counts[a] ? b : a);
}

// parseJSONL reads a value per line: strings, or objects whose keys become
// columns. A whole array of them, which is what many tools write, is read too.
export function parseJSONL(text) {
	let values;
	if (text.trimStart()[0] === "[") values = JSON.parse(text);
	else {
		values = [];
		text.split(/\r\n|\r|\n/).forEach((line, i) => {
			if (!line.trim()) return;
			try { values.push(JSON.parse(line)); } catch { throw new SyntaxError(String(i + 1)); }
		});
	}
	const isObject = (v) => v !== null && typeof v === "object" && !Array.isArray(v);
	const columns = [...new Set(values.flatMap((v) => isObject(v) ? Object.keys(v) : ["text"]))];
	const cell = (v) => v === undefined || v === null ? "" : typeof v === "string" ? v : JSON.stringify(v);
	return {columns, rows: values.map((v) => columns.map((c) => cell(isObject(v) ? v[c] : c === "text" ? v : "")))};
}

// readTable returns {columns, rows, encoding} of a file; columns is null for CSV,
// whose first row may or may not be a header.
export function readTable(name, bytes) {
	const {text, encoding} = decode(bytes);
	if (/\.(jsonl|ndjson|json)$/i.test(name)) return {...parseJSONL(text), encoding, format: "JSONL"};
	if (/\.txt$/i.test(name)) return {columns: null, rows: text.split(/\r\n|\r|\n/).filter((l) => l.trim()).map((l) => [l]), encoding, format: "TXT"};
	return {columns: null, rows: parseCSV(text), encoding, format: "CSV"};
}

// textColumn guesses which column holds the texts: by its name, else the one
// with the longest.
export function textColumn(columns, rows) {
	const named = columns.findIndex((c) => /^(text|texts|content|sentence|review|comment|body|文本|内容|正文|句子|评论|评价)$/i.test(c.trim()));
	if (named >= 0) return named;
	const lengths = columns.map((_, i) => rows.slice(0, 100).reduce((sum, row) => sum + (row[i]?.length ?? 0), 0));
	return lengths.indexOf(Math.max(...lengths));
}

// writeCSV quotes as RFC 4180 does. Cells that a spreadsheet would run as a
// formula get an apostrophe in front unless plain is set (OWASP, CSV injection;
// full-width signs count as well in East Asian locales).
export function writeCSV(rows, {plain = false} = {}) {
	const cell = (v) => {
		let s = String(v);
		if (!plain && typeof v === "string" && /^[=+\-@＝＋－＠\t\r\n]/.test(s)) s = "'" + s;
		return /[",;\t\r\n]|^\s|\s$/.test(s) ? '"' + s.replaceAll('"', '""') + '"' : s;
	};
	return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}
