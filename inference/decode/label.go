package decode

import "strings"

// role is what a tag says about a token's place in an entity.
type role uint8

const (
	outside role = iota
	begin        // B
	inside       // I, M, or a label without any prefix
	end          // E, L
	single       // S, U, W
)

// tag is a label taken apart: B-PER is begin and PER.
type tag struct {
	role role
	kind string // the entity type as the model wrote it
	id   int    // equal for equal kinds; -1 outside
}

// parseLabels reads the labels of one model. Prefixed (B-PER) and suffixed
// (PER-B) schemes are told apart by the whole set, since a single label such
// as S-E could be either.
func parseLabels(labels []string) []tag {
	prefixes, suffixes := 0, 0
	for _, l := range labels {
		if _, _, ok := cutPrefix(l); ok {
			prefixes++
		}
		if _, _, ok := cutSuffix(l); ok {
			suffixes++
		}
	}
	cut := cutPrefix
	if suffixes > prefixes {
		cut = cutSuffix
	}
	ids := map[string]int{}
	tags := make([]tag, len(labels))
	for i, l := range labels {
		if isOutside(l) {
			tags[i] = tag{role: outside, id: -1}
			continue
		}
		r, kind, ok := cut(l)
		if !ok {
			r, kind = inside, l
		}
		id, known := ids[kind]
		if !known {
			id = len(ids)
			ids[kind] = id
		}
		tags[i] = tag{role: r, kind: kind, id: id}
	}
	return tags
}

// isOutside also knows the names that models give to padding and special
// positions, which can never be an entity.
func isOutside(label string) bool {
	switch label {
	case "O", "o", "", "X", "[PAD]", "<pad>", "[CLS]", "[SEP]", "[START]", "[END]", "<START>", "<STOP>":
		return true
	}
	return false
}

// untyped is the kind of labels that are nothing but a role, as word
// segmenters have them. The name is seqeval's.
const untyped = "_"

func cutPrefix(label string) (role, string, bool) {
	if len(label) == 1 {
		r, ok := roleOf(label[0])
		return r, untyped, ok
	}
	if len(label) < 3 || !isSeparator(label[1]) {
		return 0, "", false
	}
	r, ok := roleOf(label[0])
	return r, label[2:], ok
}

func cutSuffix(label string) (role, string, bool) {
	n := len(label)
	if n < 3 || !isSeparator(label[n-2]) {
		return 0, "", false
	}
	r, ok := roleOf(label[n-1])
	return r, label[:n-2], ok
}

func isSeparator(c byte) bool { return c == '-' || c == '_' }

func roleOf(c byte) (role, bool) {
	switch c {
	case 'B', 'b':
		return begin, true
	case 'I', 'i', 'M', 'm':
		return inside, true
	case 'E', 'e', 'L', 'l':
		return end, true
	case 'S', 's', 'U', 'u', 'W', 'w':
		return single, true
	}
	return 0, false
}

// CanonicalType maps the entity type names of the common Chinese and English
// label sets to PER, LOC, ORG, GPE, DATE or TIME, so that one style sheet fits
// all models. A name it does not know comes back as it is. GPE stays GPE: in
// OntoNotes it is not the same as LOC. The set-specific endings of Weibo
// (PER.NAM, PER.NOM) are dropped. Case does not matter.
func CanonicalType(label string) string {
	name, _, _ := strings.Cut(label, ".")
	if c, ok := canonicalTypes[strings.ToLower(name)]; ok {
		return c
	}
	return label
}

// Sources: MSRA, People's Daily and UNER (PER LOC ORG); OntoNotes 5; Weibo;
// Resume (NAME, ORG, LOC); CLUENER (name, address, organization …); Boson
// (person_name, org_name …); HanLP (PERSON, LOCATION, ORGANIZATION); LTP (Nh,
// Ni, Ns); the ICTCLAS part-of-speech tags nr, ns, nt.
var canonicalTypes = map[string]string{
	"per": "PER", "person": "PER", "name": "PER", "person_name": "PER", "nh": "PER", "nr": "PER",
	"人名": "PER", "人物": "PER", "人物类": "PER",
	"loc": "LOC", "location": "LOC", "address": "LOC", "place": "LOC", "ns": "LOC", "fac": "LOC",
	"地名": "LOC", "地点": "LOC", "位置": "LOC", "世界地区类": "LOC",
	"org": "ORG", "organization": "ORG", "organisation": "ORG", "org_name": "ORG", "company": "ORG",
	"company_name": "ORG", "government": "ORG", "ni": "ORG", "nt": "ORG",
	"机构名": "ORG", "机构": "ORG", "组织": "ORG", "组织机构": "ORG", "组织机构类": "ORG",
	"gpe":  "GPE",
	"date": "DATE", "日期": "DATE",
	"time": "TIME", "时间": "TIME", "时间类": "TIME",
}
