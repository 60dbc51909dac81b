package dataset_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/examples"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
)

func profileOf(t *testing.T, r contract.Result) dataset.Profile {
	t.Helper()
	p, ok := r.Output[dataset.OutputKey].(dataset.Profile)
	if !ok {
		t.Fatalf("no profile in the output: %v", r.Output)
	}
	return p
}

func TestTheSupportTicketsAreUnderstood(t *testing.T) {
	in := stagetest.Input(t, "dataset", "support-tickets.csv", examples.SupportTickets, `{}`)
	r, log, err := stagetest.Run(context.Background(), t, dataset.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	p := profileOf(t, r)
	if p.Roles.Input.Column != "body" || p.Roles.Target.Column != "category" || p.Roles.Input.Confidence < 0.8 || p.Roles.Target.Confidence < 0.8 {
		t.Errorf("roles %+v", p.Roles)
	}
	if p.Rows < 1500 || p.Format.Kind != "csv" || p.Bytes != int64(len(examples.SupportTickets)) || len(p.SHA256) != 64 {
		t.Errorf("profile %+v", p)
	}
	if _, ok := log.Warning("UNSURE_COLUMN"); ok {
		t.Error("unsure of a clear case")
	}
	data, err := os.ReadFile(filepath.Join(in.OutputDir, dataset.ProfileFile))
	var full dataset.Profile
	if err != nil || json.Unmarshal(data, &full) != nil || len(full.Columns) != 7 || len(full.Columns[5].Examples) != 3 {
		t.Errorf("profile.json: %v %+v", err, full)
	}
	if r.Metrics["rows_per_second"] <= 0 || r.Metrics["mb_per_second"] <= 0 {
		t.Errorf("metrics %v", r.Metrics)
	}
}

// rowsOf repeats rows so that labels occur more than once.
func rowsOf(header string, rows ...string) string {
	var b strings.Builder
	b.WriteString(header + "\n")
	for i := range 6 {
		for _, r := range rows {
			b.WriteString(strings.ReplaceAll(r, "%d", fmt.Sprint(i)) + "\n")
		}
	}
	return b.String()
}

const (
	long1 = "The lamp %d does not turn on since the last update of the app and I have tried it all"
	long2 = "I would like to have my money back for order %d because it came two weeks too late"
)

func TestColumnsAreFoundByNameAndContent(t *testing.T) {
	for _, c := range []struct {
		name, data, config, input, target string
	}{
		{"plain names", rowsOf("text,label", long1+",a", long2+",b"), `{}`, "text", "label"},
		{"composed names", rowsOf("ticket_id,TicketBody,ticket_class", "%d,"+long1+",a", "%d,"+long2+",b"), `{}`, "TicketBody", "ticket_class"},
		{"no telling names", rowsOf("a,b", long1+",x", long2+",y"), `{}`, "a", "b"},
		{"numbers as labels", rowsOf("review,sentiment", long1+",0", long2+",1"), `{}`, "review", "sentiment"},
		{"a low-cardinality column beside the label", rowsOf("channel,message,category", "web,"+long1+",a", "mail,"+long2+",b"), `{}`, "message", "category"},
		{"two texts, one much longer", rowsOf("text,description,label", "short %d,"+long1+" "+long2+",a", "brief %d,"+long2+" "+long1+",b"), `{}`, "description", "label"},
		{"named in the config", rowsOf("a,b,c", long1+",x,p", long2+",y,q"), `{"text_column":"A","label_column":"c"}`, "a", "c"},
		{"questions", rowsOf("context,question,answer", "Lamps are round.,What is lamp %d like?,It is round and it is blue", "Hubs are flat.,What is hub %d like?,It is flat and it is grey"), `{"task":"qa"}`, "question", "answer"},
		{"summaries", rowsOf("article,summary", long1+long2+",The lamp is broken.", long2+long1+",Money back."), `{"task":"summarization"}`, "article", "summary"},
		{"alpaca", rowsOf("instruction,input,output", "Say what %d is.,the lamp,"+long1, "Name it %d.,,"+long2), `{"task":"chat"}`, "instruction", "output"},
		{"prompts", rowsOf("prompt,completion", long1+",and so on", long2+",and then"), `{"task":"completion"}`, "prompt", "completion"},
		{"a named text alone", rowsOf("id,body", "%d,"+long1, "%d,"+long2), `{"task":"completion","text_column":"body"}`, "", "body"},
		{"a named prompt", rowsOf("id,body,completion", "%d,"+long1+",and so on", "%d,"+long2+",and then"), `{"task":"completion","text_column":"body"}`, "body", "completion"},
		{"text alone", rowsOf("text", long1, long2), `{"task":"completion"}`, "", "text"},
		{"extraction", rowsOf("text,json", long1+`,"{""a"":%d}"`, long2+`,"{""a"":%d}"`), `{"task":"extraction"}`, "text", "json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _, err := stagetest.Run(context.Background(), t, dataset.Run, stagetest.Input(t, "dataset", "x.csv", []byte(c.data), c.config))
			if err != nil {
				t.Fatal(err)
			}
			roles := profileOf(t, r).Roles
			if roles.Input.Column != c.input || roles.Target.Column != c.target {
				t.Errorf("found %+v, want %q -> %q", roles, c.input, c.target)
			}
			if roles.Target.Why == "" || roles.Target.Confidence <= 0 {
				t.Errorf("no reason given: %+v", roles)
			}
		})
	}
}

func TestConversationsAreFound(t *testing.T) {
	line := `{"id":1,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}` + "\n"
	r, _, err := stagetest.Run(context.Background(), t, dataset.Run, stagetest.Input(t, "dataset", "x.jsonl", []byte(strings.Repeat(line, 3)), `{"task":"chat"}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := profileOf(t, r).Roles.Messages.Column; got != "messages" {
		t.Errorf("messages column %q", got)
	}
}

// Whoever has conversations, or objects to extract, is told the task that learns them.
func TestANestedValueIsMetWithTheTaskThatReadsIt(t *testing.T) {
	const turns = `[{"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]`
	for _, c := range []struct{ data, config, column, hint string }{
		{`{"messages":` + turns + `}`, `{}`, "messages", "--task chat"},
		{`{"conversations":` + turns + `}`, `{"task":"qa"}`, "conversations", "--task chat"},
		{`{"talk":` + turns + `}`, `{"task":"chat"}`, "talk", "--text-column talk"},
		{`{"text":"send lamp 3","output":{"lamp":3}}`, `{}`, "output", "--task extraction"},
		{`{"text":"send lamp 3","mine":{"lamp":3}}`, `{"task":"extraction"}`, "mine", "--label-column mine"},
		{`{"text":"send lamp 3","tags":["a"],"label":"x"}`, `{}`, "tags", `jq -c '.["tags"] |= tostring'`},
	} {
		for at, data := range map[int64]string{1: c.data + "\n", 2: `{"id":1}` + "\n" + c.data + "\n"} {
			_, _, err := stagetest.Run(context.Background(), t, dataset.Run, stagetest.Input(t, "dataset", "x.jsonl", []byte(data), c.config))
			if f := contract.AsError(err); err == nil || f.Code != "NESTED_VALUE" || f.Row != at || f.Column != c.column || !strings.Contains(f.Hint, c.hint) {
				t.Errorf("%s: %v, hint %q", data, err, f.Hint)
			}
		}
	}
}

func TestAFileThatCannotBeUsedStopsHere(t *testing.T) {
	two := rowsOf("text,label", long1+",a", long2+",b")
	for _, c := range []struct {
		name, data, config string
		class              contract.Class
		code               string
		row                int64
		column, message    string
	}{
		{"missing column", two, `{"label_column":"kind"}`, contract.ClassBadInput, "MISSING_COLUMN", 0, "kind", "text, label"},
		{"two labels", rowsOf("text,a,b", long1+",x,p", long2+",y,q"), `{}`, contract.ClassBadInput, "AMBIGUOUS_COLUMN", 1, "", "text, a, b"},
		{"two texts", rowsOf("text,content,label", long1+","+long2+",x", long2+","+long1+",y"), `{}`, contract.ClassBadInput, "AMBIGUOUS_COLUMN", 1, "", "text, content, label"},
		{"no label", rowsOf("text", long1, long2), `{}`, contract.ClassBadInput, "COLUMN_NOT_FOUND", 1, "", "target"},
		{"one column twice", two, `{"label_column":"text","text_column":"text"}`, contract.ClassConfig, "SAME_COLUMN", 0, "text", "same column"},
		{"ragged", two + "x,y,z\n", `{}`, contract.ClassBadInput, "RAGGED_ROW", 14, "", "3 cells"},
		{"Latin-1", two + "caf\xE9,a\n", `{}`, contract.ClassBadInput, "NOT_UTF8", 14, "text", "0xE9"},
		{"truncated", two + "\"half a te", `{}`, contract.ClassBadInput, "TRUNCATED", 14, "text", "ends inside"},
		{"huge cell", two + strings.Repeat("x", 10<<20) + ",a\n", `{}`, contract.ClassBadInput, "CELL_TOO_LARGE", 14, "text", "1048576"},
		{"empty", "", `{}`, contract.ClassBadInput, "EMPTY_FILE", 0, "", "empty"},
		{"header only", "text,label\n", `{}`, contract.ClassBadInput, "NO_ROWS", 1, "", "no data rows"},
		{"bad config", two, `{"dataset":{"format":"xlsx"}}`, contract.ClassConfig, "INVALID_CONFIG", 0, "", "xlsx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := stagetest.Run(context.Background(), t, dataset.Run, stagetest.Input(t, "dataset", "x.csv", []byte(c.data), c.config))
			f := contract.AsError(err)
			if err == nil || f.Class != c.class || f.Code != c.code || f.Row != c.row || f.Column != c.column || !strings.Contains(f.Message, c.message) {
				t.Errorf("got %+v", f)
			}
			if f.Class.Retryable() {
				t.Error("would be tried again")
			}
		})
	}
}

func TestADamagedCopyIsTriedAgain(t *testing.T) {
	in := stagetest.Input(t, "dataset", "x.csv", []byte(rowsOf("text,label", long1+",a", long2+",b")), `{}`)
	in.Inputs[0].SHA256 = strings.Repeat("0", 64)
	_, _, err := stagetest.Run(context.Background(), t, dataset.Run, in)
	if f := contract.AsError(err); f.Code != "CHANGED_INPUT" || !f.Class.Retryable() {
		t.Errorf("got %v", err)
	}
}

func TestCancelledRunsEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := stagetest.Run(ctx, t, dataset.Run, stagetest.Input(t, "dataset", "x.csv", examples.SupportTickets, `{}`))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestExamplesHoldNoPersonalData(t *testing.T) {
	data := rowsOf("text,label", "Write to anna@example.com about %d please and call me today,a", long2+",b")
	in := stagetest.Input(t, "dataset", "x.csv", []byte(data), `{}`)
	if _, _, err := stagetest.Run(context.Background(), t, dataset.Run, in); err != nil {
		t.Fatal(err)
	}
	profile, err := os.ReadFile(filepath.Join(in.OutputDir, dataset.ProfileFile))
	if err != nil || strings.Contains(string(profile), "anna@") || !strings.Contains(string(profile), "[EMAIL]") {
		t.Errorf("%v: %s", err, profile)
	}
}
