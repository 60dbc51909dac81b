package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/models"
	"github.com/tunemesh/tunemesh/trainer/adapter"
)

// ran is what a command line came to.
type ran struct {
	code     int
	out, err string
}

// line runs the program's command line in this process.
func line(ctx context.Context, args ...string) ran {
	var out, said bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&said)
	code := cli.Run(ctx, root, args, &said)
	return ran{code, out.String(), strings.Join(strings.Fields(said.String()), " ")}
}

// miniFolder is the bundled model on disk.
func miniFolder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mini")
	if err := os.CopyFS(dir, models.Mini()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is wrong with the line of `inference serve` is said before anything is loaded, with
// what would be right, and ends with 2.
func TestAWrongServiceIsRefusedInWords(t *testing.T) {
	mini, empty := miniFolder(t), t.TempDir()
	fit := filepath.Join(t.TempDir(), "tuned", "adapter")
	if err := adapter.Save(fit, adapter.NewConfig("another-model", 2, 4, 0, false, []string{"q_proj"}), []adapter.Tensor{
		{Name: adapter.NameA("model.layers.0.self_attn.q_proj"), Rows: 2, Cols: 4, Data: make([]float32, 8)},
		{Name: adapter.NameB("model.layers.0.self_attn.q_proj"), Rows: 4, Cols: 2, Data: make([]float32, 8)},
	}); err != nil {
		t.Fatal(err)
	}
	mute := miniFolder(t)
	if err := os.Remove(filepath.Join(mute, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	bare := filepath.Join(t.TempDir(), "bare")
	if err := os.MkdirAll(bare, 0o700); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(filepath.Join(fit, adapter.ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{filepath.Join(bare, adapter.ConfigName): config, filepath.Join(empty, "model.gguf"): []byte("GGUF")} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []struct{ args, want string }{
		{"", "no model is named"},
		{"--model /no/such/folder", "there is no folder /no/such/folder for the base model"},
		{"--model " + empty, "has no config.json Hint: a model's folder has"},
		{"--model " + filepath.Dir(mini), "did you mean " + mini + "?"},
		{"--model " + mute, "the base model " + mute + " has no tokenizer.json"},
		{"--model " + fit, "is an adapter, which needs its base model"},
		{"--model " + filepath.Join(empty, "model.gguf"), "is a GGUF file"},
		{"--model " + filepath.Join(mini, "config.json"), "is a file, and has to be a folder"},
		{"--model " + mini + " --adapter /no/such/folder", "there is no folder /no/such/folder for the adapter"},
		{"--model " + mini + " --adapter " + empty, "has no adapter_config.json Hint: an adapter's folder has"},
		{"--model " + mini + " --adapter " + filepath.Dir(fit), "did you mean " + fit + "?"},
		{"--model " + mini + " --adapter " + mini, "is a whole model, no adapter"},
		{"--model " + mini + " --adapter " + bare, "has no adapter_model.safetensors"},
		{"--model " + mini + " --adapter " + fit, "serve it over the base model that it was trained on"},
		{"--model " + mini + " --full " + empty, "the tuned model " + empty + " has no config.json"},
		{"--model " + mini + " --adapter a --full b", "--adapter and --full are given"},
		{"--model " + mini + " --concurrent -3", "--concurrent is -3, want 1 or more"},
		{"--model " + mini + " --waiting 0", "--waiting is 0, want 1 or more"},
		{"--model " + mini + " --precision q3", `--precision "q3" is none that is known Hint: there are auto, stored`},
		{"--model " + mini + " --template nope", `--template "nope" is none that is known Hint: there are auto, alpaca`},
		{"--model " + mini + " more", `unknown command "more"`},
		{"--model " + mini + " --addr nonsense", "nothing can listen at nonsense"},
		{"--model " + mini + " --addr " + taken.Addr().String(), "another program listens at " + taken.Addr().String()},
	} {
		// Given last, --addr counts; the others take any port.
		args := append([]string{"inference", "serve", "--addr", "127.0.0.1:0"}, strings.Fields(c.args)...)
		if r := line(t.Context(), args...); r.code != cli.ExitUsage || !strings.Contains(r.err, c.want) || strings.Contains(r.err, "train it again") {
			t.Errorf("%s: exit code %d, %s; want %q", c.args, r.code, r.err, c.want)
		}
	}
}

// served is the bundled model behind an address, until the test ends by what is Ctrl-C to it.
func served(t *testing.T) (addr string) {
	t.Helper()
	var out lineBuffer
	root := newRoot()
	root.SetOut(&out)
	root.SetErr(&out)
	ctx, interrupt := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, root, []string{"inference", "serve", "--model", miniFolder(t), "--addr", "127.0.0.1:0"}, &out)
	}()
	t.Cleanup(func() {
		interrupt()
		if code := <-ended; code != 0 {
			t.Errorf("after Ctrl-C: exit code %d, %s", code, out.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, after, ok := strings.Cut(out.String(), "generate --addr "); ok {
			addr, _, _ = strings.Cut(after, " ")
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing is served: %s", out.String())
		}
	}
}

// lineBuffer is written and read by two goroutines.
type lineBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lineBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lineBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A question that cannot be answered ends with the documented code and a sentence in the
// words of the command line; with --json that is a document.
func TestAWrongQuestionIsAnsweredInWords(t *testing.T) {
	addr := served(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, cli.ExitUsage, "needs TEXT"},
		{[]string{"a", "b"}, cli.ExitUsage, "does not know what to do with \"b\""},
		{[]string{"a", "--max-tokens", "-5"}, cli.ExitUsage, "--max-tokens is -5, want 1 or more"},
		{[]string{"a", "--max-tokens", "many"}, cli.ExitUsage, "many"},
		{[]string{"a", "--temperature", "-1"}, cli.ExitUsage, "--temperature is -1, want 0 to 100"},
		{[]string{"a", "--top-p", "0"}, cli.ExitUsage, "--top-p is 0, want above 0"},
		{[]string{"a", "--top-k", "-1"}, cli.ExitUsage, "--top-k is -1"},
		{[]string{"a", "--stop", ""}, cli.ExitUsage, "--stop has an empty string"},
		{[]string{"a", "--raw", "--system", "b"}, cli.ExitUsage, "--raw has no place"},
		{[]string{"a\xffb"}, cli.ExitUsage, "the text has bytes that are not UTF-8, the first after 1"},
		{[]string{"a", "--system", "\xff"}, cli.ExitUsage, "the text has bytes that are not UTF-8"},
		{[]string{"a", "--addr", "nonsense"}, cli.ExitUsage, "is no address"},
		{[]string{"a", "--addr", "127.0.0.1:1"}, cli.ExitUnreachable, "no service answers at 127.0.0.1:1"},
		{[]string{strings.Repeat("long ", 600)}, cli.ExitRefused, "tokens, and the model's context 512 with the answer: shorten it by"},
		{[]string{"", "--raw"}, cli.ExitRefused, "the prompt is empty"},
	} {
		for _, asJSON := range []bool{false, true} {
			args := append([]string{"inference", "generate", "--addr", addr}, c.args...)
			if asJSON {
				args = append(args, "--json")
			}
			r := line(t.Context(), args...)
			if said := strings.ReplaceAll(r.err, "\\", ""); r.code != c.code || !strings.Contains(said, c.want) || strings.Contains(said, "rpc error") || r.out != "" {
				t.Errorf("%.60q: exit code %d, %.200s, %q; want %d, %q", args, r.code, r.err, r.out, c.code, c.want)
			}
			var p struct{ Title string }
			if err := json.Unmarshal([]byte(r.err), &p); asJSON != (err == nil && p.Title != "") {
				t.Errorf("%.60q: %s", args, r.err)
			}
		}
	}
	if r := line(t.Context(), "inference", "generate", "--addr", addr, "--max-tokens", "1", "my printer"); r.code != 0 || !strings.HasPrefix(r.err, "1 token,") {
		t.Errorf("exit code %d, %s", r.code, r.err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if r := line(ctx, "inference", "generate", "--addr", addr, "my printer"); r.code != cli.ExitInterrupted || r.err != "Error: interrupted" {
		t.Errorf("after Ctrl-C: exit code %d, %s", r.code, r.err)
	}
}

// What listens and is none of inference is not called absent.
func TestAnotherServiceIsSaidToBeAnother(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	for _, verb := range [][]string{{"show"}, {"generate", "hello"}} {
		if r := line(t.Context(), append([]string{"inference", verb[0], "--addr", l.Addr().String()}, verb[1:]...)...); r.code != cli.ExitUnreachable || !strings.Contains(r.err, "does not answer as an inference service") {
			t.Errorf("%v: exit code %d, %s", verb, r.code, r.err)
		}
	}
}

// A service says what it has loaded, to a person and as JSON.
func TestAServiceIsShown(t *testing.T) {
	addr := served(t)
	r := line(t.Context(), "inference", "show", "--addr", addr)
	for _, want := range []string{"Model         mini\n", "Context       512 tokens\n", "Precision     stored\n", "Memory        6.0 MiB for the weights, up to 1.5 MiB for a request\n", "Adapter       none: a base model\n"} {
		if r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("exit code %d, lacks %q:\n%s", r.code, want, r.out)
		}
	}
	var m shownModel
	if r := line(t.Context(), "inference", "show", "--addr", addr, "--json"); json.Unmarshal([]byte(r.out), &m) != nil || m.Precision != "stored" || m.WeightBytes == 0 || m.Adapter != nil || m.Address != addr {
		t.Errorf("exit code %d, %s", r.code, r.out)
	}
	var out bytes.Buffer
	m.Adapter = &shownAdapter{BaseModel: "mini", Rank: 8, Alpha: 16, RSLoRA: true, TargetModules: []string{"q_proj", "v_proj"}, Parameters: 12345, Bytes: 49380}
	m.print(&out)
	if want := "Adapter LoRA over mini: rank 8, alpha 16, rsLoRA, on q_proj, v_proj; 12,345 parameters, 48 KiB Loaded"; !strings.Contains(strings.Join(strings.Fields(out.String()), " "), want) {
		t.Errorf("lacks %q:\n%s", want, out.String())
	}
}

// Every verb of the program has errors of the same kind: wrong flags and arguments end with
// 2, and with --json in a document.
func TestEveryVerbRefusesAWrongLineAlike(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		for _, child := range c.Commands() {
			walk(child)
		}
		if c.Hidden {
			return
		}
		verb := strings.Fields(c.CommandPath())[1:]
		wrong := append(verb, "--no-such-flag", "--json")
		r := line(t.Context(), wrong...)
		var p struct{ Title string }
		if err := json.Unmarshal([]byte(r.err), &p); err != nil || r.code != cli.ExitUsage || !strings.Contains(p.Title, "unknown flag") {
			t.Errorf("%v: exit code %d, %s", wrong, r.code, r.err)
		}
		if c.HasSubCommands() {
			wrong = append(verb, "no-such-command")
		} else {
			wrong = append(verb, "one", "two", "three", "four", "five")
		}
		if strings.HasPrefix(strings.Join(verb, " "), "artifact get") {
			return // takes any number
		}
		if r := line(t.Context(), wrong...); r.code != cli.ExitUsage || !strings.Contains(r.err, "Hint: ") {
			t.Errorf("%v: exit code %d, %s", wrong, r.code, r.err)
		}
	}
	walk(newRoot())
}
