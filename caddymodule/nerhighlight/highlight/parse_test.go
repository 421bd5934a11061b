package highlight

import (
	"fmt"
	"strings"
	"testing"
)

// show is a compact form of a document: each entity as label, words and place,
// each score, and what was dropped.
func show(d Document) string {
	runes := []rune(d.Text)
	var parts []string
	for _, e := range d.Entities {
		s := fmt.Sprintf("%s:%s[%d,%d)", e.Label, string(runes[e.Start:e.End]), e.Start, e.End)
		if e.HasScore {
			s += fmt.Sprintf("=%.2f", e.Score)
		}
		parts = append(parts, s)
	}
	for _, s := range d.Scores {
		parts = append(parts, fmt.Sprintf("%s=%.2f", s.Label, s.Score))
	}
	if d.Dropped > 0 {
		parts = append(parts, fmt.Sprintf("dropped %d", d.Dropped))
	}
	return strings.Join(parts, " ")
}

const (
	sentence = "马云在杭州阿里巴巴总部发表演讲。"
	emoji    = "😀马云和👨‍👩‍👧在杭州" // 1, 2, 1, 5 code points in one grapheme (8 UTF-16 units), 1, 2
)

func TestEveryShapeIsRead(t *testing.T) {
	all := "PER:马云[0,2)=0.99 LOC:杭州[3,5)=0.98 ORG:阿里巴巴[5,9)=0.97"
	plain := "PER:马云[0,2) LOC:杭州[3,5) ORG:阿里巴巴[5,9)"
	for name, c := range map[string]struct{ body, text, want string }{
		"ModelScope": {
			`{"output":[{"type":"PER","start":0,"end":2,"prob":0.99,"span":"马云"},{"type":"LOC","start":3,"end":5,"prob":0.98,"span":"杭州"},{"type":"ORG","start":5,"end":9,"prob":0.97,"span":"阿里巴巴"}]}`,
			sentence, all,
		},
		"ModelScope without prob and span": {
			`{"output":[{"type":"PER","start":0,"end":2},{"type":"LOC","start":3,"end":5},{"type":"ORG","start":5,"end":9}]}`, sentence, plain,
		},
		"our own, with the text": {
			`{"text":"` + sentence + `","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":0.99},{"type":"LOC","start":3,"end":5,"span":"杭州","prob":0.98},{"type":"ORG","start":5,"end":9,"span":"阿里巴巴","prob":0.97}]}`,
			"", all,
		},
		"numpy scalars as strings": {
			`{"output":[{"type":"PER","start":"0","end":"2","prob":"0.99","span":"马云"}]}`, sentence, "PER:马云[0,2)=0.99",
		},
		"Hugging Face, grouped": {
			`[{"entity_group":"PER","score":0.99,"word":"马 云","start":0,"end":2},{"entity_group":"LOC","score":0.98,"word":"杭 州","start":3,"end":5},{"entity_group":"ORG","score":0.97,"word":"阿 里 巴 巴","start":5,"end":9}]`,
			sentence, all,
		},
		"Hugging Face, a slow tokenizer": {
			`[{"entity_group":"PER","score":0.99,"word":"马 云","start":null,"end":null},{"entity_group":"LOC","score":0.98,"word":"杭 州","start":null,"end":null}]`,
			sentence, "PER:马云[0,2)=0.99 LOC:杭州[3,5)=0.98",
		},
		"Hugging Face, ungrouped BIO": {
			`[{"entity":"B-PER","score":1.0,"index":1,"word":"马","start":0,"end":1},{"entity":"I-PER","score":0.9,"index":2,"word":"云","start":1,"end":2},{"entity":"O","score":0.9,"index":3,"word":"在","start":2,"end":3},{"entity":"B-LOC","score":0.8,"index":4,"word":"杭","start":3,"end":4},{"entity":"I-LOC","score":0.8,"index":5,"word":"州","start":4,"end":5}]`,
			sentence, "PER:马云[0,2)=0.95 LOC:杭州[3,5)=0.80",
		},
		"Hugging Face, ungrouped without a scheme": {
			`[{"entity":"LOC","score":0.8,"index":4,"word":"杭","start":3,"end":4},{"entity":"LOC","score":0.8,"index":5,"word":"州","start":4,"end":5}]`,
			sentence, "LOC:杭州[3,5)=0.80",
		},
		"Hugging Face, BIOES that its grouping breaks": {
			`[{"entity_group":"ORG","score":0.9,"word":"阿里巴","start":5,"end":8},{"entity_group":"E-ORG","score":0.8,"word":"巴","start":8,"end":9}]`,
			sentence, "ORG:阿里巴巴[5,9)=0.85",
		},
		"word pieces": {
			`[{"entity":"B-ORG","index":1,"score":1,"word":"open","start":0,"end":4},{"entity":"I-ORG","index":2,"score":1,"word":"##ai","start":4,"end":6},{"entity":"I-ORG","index":3,"score":1,"word":"Labs","start":7,"end":11}]`,
			"OpenAI Labs", "ORG:OpenAI Labs[0,11)=1.00",
		},
		"Hugging Face, a batch of one": {
			`[[{"entity_group":"PER","score":0.99,"word":"马云","start":0,"end":2}]]`, sentence, "PER:马云[0,2)=0.99",
		},
		"transformers.js": {
			`[{"entity":"B-PER","score":0.9,"index":1,"word":"马"},{"entity":"I-PER","score":0.9,"index":2,"word":"云"}]`, sentence, "PER:马云[0,2)=0.90",
		},
		"nothing found":             {`[]`, sentence, ""},
		"nothing found, ModelScope": {`{"output":[]}`, sentence, ""},
		"spaCy": {
			`{"text":"` + sentence + `","ents":[{"start":0,"end":2,"label":"PERSON"},{"start":3,"end":5,"label":"GPE","kb_id":"Q4970"}],"sents":[],"tokens":[{"id":0,"start":0,"end":2}]}`,
			"", "PERSON:马云[0,2) GPE:杭州[3,5)",
		},
		"spaCy, span groups": {
			`{"text":"` + sentence + `","ents":[],"tokens":[{"id":0,"start":0,"end":2},{"id":1,"start":2,"end":3},{"id":2,"start":3,"end":5},{"id":3,"start":5,"end":9}],"spans":{"sc":[{"start":3,"end":9,"label":"ORG"},{"start_token":2,"end_token":3,"label":"LOC"}]}}`,
			"", "ORG:杭州阿里巴巴[3,9) LOC:杭州[3,5)",
		},
		"displaCy, entities": {`{"text":"` + sentence + `","ents":[{"start":0,"end":2,"label":"PER"}],"title":null}`, "", "PER:马云[0,2)"},
		"displaCy, spans": {
			`{"text":"Welcome to the Bank of China.","spans":[{"start_token":3,"end_token":6,"label":"ORG"},{"start_token":5,"end_token":6,"label":"GPE"}],"tokens":["Welcome","to","the","Bank","of","China","."]}`,
			"", "ORG:Bank of China[15,28) GPE:China[23,28)",
		},
		"Stanza": {`{"entities":[{"text":"马云","type":"PERSON","start_char":0,"end_char":2}]}`, sentence, "PERSON:马云[0,2)"},
		"HanLP": {
			`{"tok/fine":[["2021年","HanLPv2.1","为","生产","环境"],["阿婆主","来到","北京","立方庭","参观"]],"ner/msra":[[["2021年","DATE",0,1],["HanLPv2.1","WWW",1,2]],[["北京","LOCATION",2,3],["立方庭","LOCATION",3,4]]]}`,
			"", "DATE:2021年[0,5) WWW:HanLPv2.1[5,14) LOCATION:北京[24,26) LOCATION:立方庭[26,29)",
		},
		"HanLP, one sentence": {
			`{"tok":["阿婆主","来到","北京"],"ner":[["北京","LOCATION",2,3]]}`, "阿婆主来到北京", "LOCATION:北京[5,7)",
		},
		"HanLP, offsets outside its sentence": {
			`{"tok":["阿婆主","来到","北京"],"ner":[["上海","LOCATION",7,9]]}`, "阿婆主来到北京", "dropped 1",
		},
		"LTP, first and last token": {`{"seg":[["他","叫","汤姆","去","拿","外衣"]],"ner":[[["Nh",2,2]]]}`, "他叫汤姆去拿外衣", "Nh:汤姆[2,4)"},
		"LTP, words":                {`{"cws":[["他","叫","汤姆"]],"ner":[[["Nh","汤姆"]]]}`, "他叫汤姆", "Nh:汤姆[2,4)"},
		"LTP's server":              {`{"nes":[{"text":"汤姆","offset":2,"ne":"nh","length":2}]}`, "他叫汤姆", "nh:汤姆[2,4)"},
		"PaddleNLP ner": {
			`[["马云","人物类_实体"],["在","介词"],["杭州","世界地区类"],["阿里巴巴","组织机构类"],["总部","场所类"],["发表","场景事件"],["演讲","场景事件"],["。","w"]]`,
			sentence, "人物类_实体:马云[0,2) 世界地区类:杭州[3,5) 组织机构类:阿里巴巴[5,9) 场所类:总部[9,11)",
		},
		"PaddleNLP uie": {
			`[{"时间":[{"text":"2月8日上午","start":0,"end":6,"probability":0.98}],"选手":[{"text":"谷爱凌","start":6,"end":9,"probability":0.90}]}]`,
			"2月8日上午谷爱凌以188分获得金牌", "时间:2月8日上午[0,6)=0.98 选手:谷爱凌[6,9)=0.90",
		},
		"LAC":            {`[["马云","在","杭州","阿里巴巴","总部"],["PER","p","LOC","ORG","n"]]`, "", plain},
		"LAC, two words": {`[["马云","来"],["PER","v"]]`, "马云来", "PER:马云[0,2)"},
		"Gradio, wire": {
			`{"data":[[{"token":"马云","class_or_confidence":"PER"},{"token":"在","class_or_confidence":null},{"token":"杭州","class_or_confidence":"LOC"}]]}`,
			"", "PER:马云[0,2) LOC:杭州[3,5)",
		},
		"Gradio, Python": {`{"text":"` + sentence + `","entities":[{"entity":"PER","start":0,"end":2}]}`, "", "PER:马云[0,2)"},
		"Gradio, events": {
			"event: heartbeat\ndata: null\n\nevent: complete\ndata: [{\"text\":\"马云来\",\"entities\":[{\"entity_group\":\"PER\",\"start\":0,\"end\":2}]}]\n\n", "", "PER:马云[0,2)",
		},
		"Label Studio": {
			`{"data":{"text":"` + sentence + `"},"predictions":[{"score":0.9,"result":[{"from_name":"label","type":"labels","score":0.95,"value":{"start":0,"end":2,"text":"马云","labels":["PER"]}}]}]}`,
			"", "PER:马云[0,2)=0.95",
		},
		"Label Studio, an old export": {
			`{"data":{"text":"` + emoji + `"},"annotations":[{"result":[{"value":{"start":2,"end":4,"text":"马云","labels":["PER"]}},{"value":{"start":14,"end":16,"text":"杭州","labels":["LOC"]}}]}]}`,
			"", "PER:马云[1,3) LOC:杭州[10,12)",
		},
		"doccano, arrays":       {`{"text":"` + sentence + `","label":[[0,2,"PER"],[3,5,"LOC"]]}`, "", "PER:马云[0,2) LOC:杭州[3,5)"},
		"doccano, objects":      {`{"text":"` + sentence + `","entities":[{"id":1,"start_offset":0,"end_offset":2,"label":"PER"}]}`, "", "PER:马云[0,2)"},
		"doccano, which unit?":  {`{"text":"` + emoji + `","label":[[2,4,"PER"]]}`, "", "dropped 1"},
		"brat":                  {"T1\tPER 0 2\t马云\nR1\tLives Arg1:T1 Arg2:T2\nT2\tLOC 3 5\t杭州\n", sentence, "PER:马云[0,2) LOC:杭州[3,5)"},
		"brat, discontinuous":   {"T1\tORG 3 5;9 11\t杭州 总部\n", sentence, "ORG:杭州[3,5) ORG:总部[9,11)"},
		"brat, embedded":        {`{"text":"` + sentence + `","entities":[["T1","PER",[[0,2]]]]}`, "", "PER:马云[0,2)"},
		"CLUENER":               {`{"text":"浙商银行企业信贷部叶老桂博士","label":{"name":{"叶老桂":[[9,11]]},"company":{"浙商银行":[[0,3]]}}}`, "", "company:浙商银行[0,4) name:叶老桂[9,12)"},
		"Azure":                 {`{"kind":"EntityRecognitionResults","results":{"documents":[{"id":"1","entities":[{"text":"杭州","category":"Location","offset":6,"length":2,"confidenceScore":0.9}]}],"errors":[]}}`, emoji, "Location:杭州[10,12)=0.90"},
		"AWS":                   {`{"Entities":[{"Score":0.99,"Type":"PERSON","Text":"马云","BeginOffset":1,"EndOffset":3}]}`, emoji, "PERSON:马云[1,3)=0.99"},
		"CoreNLP":               {`{"sentences":[{"index":0,"entitymentions":[{"docTokenBegin":1,"characterOffsetBegin":14,"characterOffsetEnd":16,"text":"杭州","ner":"CITY"}]}]}`, emoji, "CITY:杭州[10,12)"},
		"FastAPI":               {`{"entities":[{"text":"马云","label":"PER","start":0,"end":2,"score":0.99}]}`, sentence, "PER:马云[0,2)=0.99"},
		"FastAPI, no offsets":   {`{"entities":[{"text":"马云","label":"PER"},{"text":"杭州","label":"LOC"}]}`, sentence, "PER:马云[0,2) LOC:杭州[3,5)"},
		"inclusive ends":        {`{"entities":[{"text":"马云","label":"PER","start":0,"end":1},{"text":"杭州","label":"LOC","start":3,"end":4}]}`, sentence, "PER:马云[0,2) LOC:杭州[3,5)"},
		"bytes":                 {`{"entities":[{"text":"马云","label":"PER","start":4,"end":10},{"text":"杭州","label":"LOC","start":34,"end":40}]}`, emoji, "PER:马云[1,3) LOC:杭州[10,12)"},
		"UTF-16":                {`{"entities":[{"text":"马云","label":"PER","start":2,"end":4},{"text":"杭州","label":"LOC","start":14,"end":16}]}`, emoji, "PER:马云[1,3) LOC:杭州[10,12)"},
		"graphemes":             {`{"entities":[{"text":"马云","label":"PER","start":1,"end":3},{"text":"杭州","label":"LOC","start":6,"end":8}]}`, emoji, "PER:马云[1,3) LOC:杭州[10,12)"},
		"UTF-16, words again":   {`{"entities":[{"text":"中","label":"LOC","start":2,"end":3},{"text":"国","label":"LOC","start":5,"end":6}]}`, "😀中中。国", "LOC:中[1,2) LOC:国[4,5)"},
		"open inference":        {`{"model_name":"ner","outputs":[{"name":"output","shape":[1],"datatype":"BYTES","data":["[{\"entity_group\":\"PER\",\"score\":0.9,\"word\":\"马云\",\"start\":0,\"end\":2}]"]}]}`, sentence, "PER:马云[0,2)=0.90"},
		"JSON in a string":      {`{"Data":"{\"result\":[{\"text\":\"马云\",\"label\":\"PER\",\"start\":0,\"end\":2}]}"}`, sentence, "PER:马云[0,2)"},
		"wrapped":               {`{"code":200,"data":{"result":{"output":[{"type":"PER","start":0,"end":2,"span":"马云"}]}}}`, sentence, "PER:马云[0,2)"},
		"nested entities":       {`{"text":"中国人民银行","entities":[{"label":"LOC","start":0,"end":2},{"label":"ORG","start":0,"end":6}]}`, "", "ORG:中国人民银行[0,6) LOC:中国[0,2)"},
		"the same entity twice": {`{"text":"马云","entities":[{"label":"PER","start":0,"end":2},{"label":"PER","start":0,"end":2}]}`, "", "PER:马云[0,2)"},
		"ModelScope classes":    {`{"scores":[0.08,0.92],"labels":["负面","正面"]}`, sentence, "正面=0.92 负面=0.08"},
		"one class":             {`{"label":"positive","score":0.92}`, "好", "positive=0.92"},
		"our own classes":       {`{"text":"好","label":"正面","score":0.92,"labels":["负面","正面"],"scores":[0.08,0.92]}`, "", "正面=0.92 负面=0.08"},
		"TEI":                   {`[[{"score":0.92,"label":"LABEL_1"},{"score":0.08,"label":"LABEL_0"}]]`, "好", "LABEL_1=0.92 LABEL_0=0.08"},
		"PaddleNLP sentiment":   {`[{"text":"好","label":"positive","score":0.92}]`, "好", "positive=0.92"},
		"similarity":            {`{"scores":0.8,"labels":["1"]}`, "", "1=0.80"},
	} {
		t.Run(name, func(t *testing.T) {
			var texts []string
			if c.text != "" {
				texts = []string{c.text}
			}
			docs, err := Parse([]byte(c.body), texts)
			if err != nil {
				t.Fatal(err)
			}
			if len(docs) != 1 {
				t.Fatalf("%d documents", len(docs))
			}
			if got := show(docs[0]); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestSeveralTextsKeepTheirAnswers(t *testing.T) {
	texts := []string{"马云来了", "去杭州"}
	for name, body := range map[string]string{
		"ours":         `{"results":[{"text":"马云来了","output":[{"type":"PER","start":0,"end":2,"span":"马云","prob":1}]},{"text":"去杭州","output":[{"type":"LOC","start":1,"end":3,"span":"杭州","prob":1}]}]}`,
		"Hugging Face": `[[{"entity_group":"PER","score":1,"word":"马云","start":0,"end":2}],[{"entity_group":"LOC","score":1,"word":"杭州","start":1,"end":3}]]`,
		"ModelScope":   `[{"output":[{"type":"PER","start":0,"end":2,"prob":1}]},{"output":[{"type":"LOC","start":1,"end":3,"prob":1}]}]`,
		"JSON lines":   "{\"text\":\"马云来了\",\"label\":[[0,2,\"PER\"]]}\n{\"text\":\"去杭州\",\"label\":[[1,3,\"LOC\"]]}\n",
	} {
		docs, err := Parse([]byte(body), texts)
		if err != nil || len(docs) != 2 {
			t.Errorf("%s: %d documents, %v", name, len(docs), err)
			continue
		}
		if a, b := show(docs[0]), show(docs[1]); !strings.HasPrefix(a, "PER:马云[0,2)") || !strings.HasPrefix(b, "LOC:杭州[1,3)") {
			t.Errorf("%s: %s and %s", name, a, b)
		}
	}
}

func TestWhatCannotBePlacedIsDroppedAndCounted(t *testing.T) {
	for name, c := range map[string]struct{ body, text, want string }{
		"words that are not there":        {`{"entities":[{"text":"李雷","label":"PER","start":0,"end":2}]}`, sentence, "dropped 1"},
		"wrong offsets, a word once":      {`{"entities":[{"text":"马云","label":"PER","start":7,"end":9},{"text":"杭州","label":"LOC","start":3,"end":5}]}`, sentence, "PER:马云[0,2) LOC:杭州[3,5)"},
		"wrong offsets, a word twice":     {`{"entities":[{"text":"马云","label":"PER","start":9,"end":11},{"text":"在","label":"X","start":2,"end":3}]}`, "马云在马云", "X:在[2,3) dropped 1"},
		"past the end":                    {`{"entities":[{"label":"PER","start":90,"end":92}]}`, sentence, "dropped 1"},
		"empty":                           {`{"entities":[{"label":"PER","start":2,"end":2}]}`, sentence, "dropped 1"},
		"backwards":                       {`{"entities":[{"label":"PER","start":3,"end":1}]}`, sentence, "dropped 1"},
		"no offsets, which of two?":       {`{"entities":[{"text":"中国","label":"LOC"}]}`, "中国银行在中国", "dropped 1"},
		"no offsets, one for each of two": {`{"entities":[{"text":"中国","label":"LOC"},{"text":"中国","label":"LOC"}]}`, "中国在中国", "LOC:中国[0,2) LOC:中国[3,5)"},
		"no offsets, order decides":       {`{"entities":[{"text":"杭州","label":"LOC"},{"text":"马云","label":"PER"}]}`, "马云在杭州见马云", "LOC:杭州[3,5) PER:马云[6,8)"},
		"no offsets, maybe nested":        {`{"entities":[{"text":"中国银行","label":"ORG"},{"text":"中国","label":"LOC"}]}`, "中国银行在中国", "ORG:中国银行[0,4) dropped 1"},
		"half a surrogate pair":           {`{"sentences":[{"entitymentions":[{"characterOffsetBegin":1,"characterOffsetEnd":4,"ner":"PERSON"}]}]}`, emoji, "dropped 1"},
		"half a grapheme":                 {`{"documents":[{"entities":[{"category":"Person","offset":1.5,"length":2,"confidenceScore":1,"text":"?"}]}]}`, emoji, "dropped 1"},
		"words cut another way":           {`[["马云","PER"],["在","p"],["北京","LOC"]]`, sentence, "dropped 2"},
	} {
		docs, err := Parse([]byte(c.body), []string{c.text})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := show(docs[0]); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestOtherJSONIsNotTakenForAnAnswer(t *testing.T) {
	for name, body := range map[string]string{
		"word segmentation": `{"output":["今天","天气"]}`,
		"an error":          `{"error":"No text provided"}`,
		"health":            `{"status":"healthy","model_loaded":true}`,
		"numbers":           `{"outputs":[{"name":"logits","datatype":"FP32","shape":[1,3],"data":[0.1,0.2,0.7]}]}`,
		"embeddings":        `[[0.1,0.2],[0.3,0.4]]`,
		"a string":          `"马云"`,
		"a number":          `42`,
		"nothing":           ``,
		"broken":            `{"output":[`,
		"two values":        `{"output":[]} x`,
		"too deep":          strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
		"a list of users":   `[{"name":"马云","id":1},{"name":"李雷","id":2}]`,
		"translation":       `[{"translation_text":"hello"}]`,
	} {
		if docs, err := Parse([]byte(body), []string{sentence}); err == nil {
			t.Errorf("%s: %+v", name, docs)
		}
	}
}

func TestAnAnswerWithoutAnyTextIsAnError(t *testing.T) {
	if docs, err := Parse([]byte(`[{"entity_group":"PER","score":1,"word":"马云","start":0,"end":2}]`), nil); err == nil {
		t.Errorf("%+v", docs)
	}
}
