package plan_test

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/plan"
)

const gib = 1 << 30

// The shapes of SmolLM2-135M and TinyLlama-1.1B, as their config.json has them.
var (
	smol   = shape(`{"hidden_size":576,"intermediate_size":1536,"num_hidden_layers":30,"num_attention_heads":9,"num_key_value_heads":3,"vocab_size":49152,"max_position_embeddings":8192,"tie_word_embeddings":true,"torch_dtype":"bfloat16"}`)
	llama1 = shape(`{"hidden_size":2048,"intermediate_size":5632,"num_hidden_layers":22,"num_attention_heads":32,"num_key_value_heads":4,"vocab_size":32000,"max_position_embeddings":2048,"torch_dtype":"bfloat16"}`)
)

func shape(config string) plan.Shape {
	s, err := plan.ParseShape([]byte(config))
	if err != nil {
		panic(err)
	}
	return s
}

func training(config string) contract.TrainingConfig {
	c, err := contract.ParseConfig([]byte(`{"training":{`+config+`}}`), true)
	if err != nil {
		panic(err)
	}
	return c.WithDefaults().Training
}

func machine(memory float64) plan.Machine {
	return plan.Machine{Memory: int64(memory * gib), Whose: "free on this machine", Cores: 2, Kernels: "avx2"}
}

func TestShapesHaveTheirParameters(t *testing.T) {
	for s, want := range map[plan.Shape]int64{smol: 134_515_008, llama1: 1_100_048_384} {
		if got := s.Parameters(); got != want {
			t.Errorf("%d parameters, want %d", got, want)
		}
	}
	for _, bad := range []string{`{}`, `[]`, `{"hidden_size":-5}`, `{"hidden_size":"x"}`} {
		if _, err := plan.ParseShape([]byte(bad)); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}

func TestAutoFollowsTheMemory(t *testing.T) {
	for _, c := range []struct {
		name      string
		config    string
		shape     plan.Shape
		memory    float64
		length    int
		batch     int
		precision string
		recompute bool
	}{
		{"all there is room for", ``, smol, 16, 128, 8, "bf16", false},
		{"a smaller micro-batch, as fast", ``, smol, 1.2, 128, 4, "bf16", false},
		{"activations computed twice", ``, smol, 0.6, 128, 8, "bf16", true},
		{"a coarser base where nothing else helps", ``, llama1, 2.5, 64, 4, "int8", false},
		{"4 bits", ``, llama1, 1.4, 32, 8, "int4", true},
		{"what was asked for", `"batch_size":2,"base_precision":"int8"`, smol, 16, 128, 2, "int8", false},
		{"the memory is not known", ``, llama1, 0, 2048, 8, "bf16", false},
		{"full training is f32", `"method":"full"`, smol, 16, 128, 8, "f32", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := plan.Settle(training(c.config), c.shape, machine(c.memory), plan.Data{Length: c.length})
			if err != nil {
				t.Fatal(err)
			}
			tr := out.Training
			if tr.BatchSize != c.batch || tr.BasePrecision != c.precision || out.Recompute != c.recompute {
				t.Errorf("batch %d, %s, recompute %v at %s; want %d, %s, %v", tr.BatchSize, tr.BasePrecision, out.Recompute, plan.Bytes(out.Estimate.Total()), c.batch, c.precision, c.recompute)
			}
			if c.config == "" && tr.BatchSize*tr.GradientAccum != 8 {
				t.Errorf("a step has %d samples, and should have 8 on every machine", tr.BatchSize*tr.GradientAccum)
			}
			for _, s := range out.Settings {
				t.Logf("%s is %s: %s", s.Field, s.Value, s.Reason)
			}
		})
	}
}

func TestEachOpenSettingHasAReason(t *testing.T) {
	out, err := plan.Settle(training(``), smol, machine(14), plan.Data{Lengths: []int{128, 90, 30}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"training.batch_size":            `^batch 8 x 128 tokens: \d+ MiB of 14.0 GiB free on this machine; the full micro-batch fits$`,
		"training.gradient_accumulation": `^a step has 8 samples$`,
		"training.base_precision":        `^as stored$`,
		"training.compute":               `^most exact$`,
		"training.learning_rate":         `134.5 million parameters, below a billion`,
		"memory":                         `^\d+ MiB of 14.0 GiB free on this machine; weights \d+ MiB, activations .*avx2 loops on 2 cores$`,
	}
	for _, s := range out.Settings {
		if !regexp.MustCompile(want[s.Field]).MatchString(s.Reason) {
			t.Errorf("%s is %s: %s", s.Field, s.Value, s.Reason)
		}
		delete(want, s.Field)
	}
	if len(want) > 0 {
		t.Errorf("nothing is said of %v", want)
	}
	if out.Run.Tokens != 248 {
		t.Errorf("the largest micro-batch has %d tokens; there are three samples of 248", out.Run.Tokens)
	}
	out, err = plan.Settle(training(`"batch_size":8,"gradient_accumulation":1,"base_precision":"bf16","compute":"f32","learning_rate":0.001`), smol, machine(14), plan.Data{Length: 128})
	if err != nil || len(out.Settings) != 1 {
		t.Errorf("%v %+v: what was given needs no reason", err, out.Settings)
	}
}

func TestWhatDoesNotFitIsRefusedWithWhatWould(t *testing.T) {
	for _, c := range []struct {
		name, config string
		shape        plan.Shape
		memory       float64
		length       int
		field        string
		hints        []string
	}{
		{"a large batch", `"batch_size":256`, smol, 4, 512, "training.batch_size", []string{"training.packing_tokens=", "training.batch_size=", "preprocessing.max_length="}},
		{"a large budget", `"batch_size":64,"packing_tokens":32768`, smol, 4, 512, "training.packing_tokens", []string{"training.packing_tokens=", "preprocessing.max_length="}},
		{"long samples", `"batch_size":1`, smol, 1, 8192, "preprocessing.max_length", []string{"preprocessing.max_length="}},
		{"f32", `"base_precision":"f32"`, llama1, 3, 64, "training.base_precision", []string{"training.base_precision=bf16"}},
		{"full training", `"method":"full"`, llama1, 8, 64, "training.method", []string{"training.method=lora"}},
		{"a high rank", `"rank":1024,"batch_size":1`, llama1, 6, 64, "training.rank", []string{"training.rank="}},
		{"several changes", `"batch_size":64,"base_precision":"f32"`, llama1, 2, 2048, "", []string{" and "}},
		{"nothing helps", ``, llama1, 0.2, 64, "model", []string{"smaller model"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := plan.Settle(training(c.config), c.shape, machine(c.memory), plan.Data{Length: c.length})
			doesNotFit(t, err, c.field, c.hints)
		})
	}
}

// doesNotFit is a refusal that names the field, if one is given, and hints at all of these.
func doesNotFit(t *testing.T, err error, field string, hints []string) {
	t.Helper()
	var e *contract.Error
	if !errors.As(err, &e) || e.Code != "DOES_NOT_FIT" {
		t.Fatalf("%v", err)
	}
	t.Logf("%v; %s", e, e.Hint)
	if field != "" && e.Field != field {
		t.Errorf("names %s, want %s", e.Field, field)
	}
	for _, h := range hints {
		if !strings.Contains(e.Hint, h) {
			t.Errorf("hint %q lacks %q", e.Hint, h)
		}
	}
}

// Each of the settings that a refusal names does fit.
func TestTheNearestSettingsFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom([]plan.Shape{smol, llama1}).Draw(t, "shape")
		memory := rapid.Float64Range(0.1, 10).Draw(t, "GiB")
		device := rapid.SampledFrom([]string{"", "cpu", "cuda"}).Draw(t, "device of peft")
		on := func(c contract.TrainingConfig) plan.Machine {
			m := machine(memory)
			if device != "" && c.Engine != "native" {
				m.Torch = plan.TorchOn(device, true, c)
			}
			return m
		}
		length := rapid.IntRange(32, s.Context).Draw(t, "length")
		c := training(fmt.Sprintf(`"batch_size":%d,"rank":%d,"base_precision":%q`, rapid.IntRange(1, 128).Draw(t, "batch"),
			rapid.IntRange(1, 1024).Draw(t, "rank"), rapid.SampledFrom(contract.Precisions).Draw(t, "precision")))
		if rapid.Bool().Draw(t, "packed") {
			c.PackingTokens = rapid.IntRange(1, 1<<17).Draw(t, "packing")
		}
		if rapid.Bool().Draw(t, "full") {
			c.Method, c.BasePrecision = "full", "auto"
		}
		if device != "" {
			c.Workers = rapid.IntRange(1, 4).Draw(t, "workers")
			if c.Workers > 1 && rapid.Bool().Draw(t, "sharded") && c.BasePrecision != "int8" && c.BasePrecision != "int4" {
				c.Sharding = "fsdp"
			}
		}
		out, err := plan.Settle(c, s, on(c), plan.Data{Length: length})
		if err == nil {
			if float64(out.Estimate.Total()) > memory*gib {
				t.Fatalf("settled for %s of %.1f GiB", plan.Bytes(out.Estimate.Total()), memory)
			}
			return
		}
		var e *contract.Error
		if !errors.As(err, &e) || e.Hint == "" {
			t.Fatalf("%v", err)
		}
		list, ok := strings.CutPrefix(e.Hint, "would fit: ")
		if !ok {
			return
		}
		for _, one := range strings.Split(list, "; or ") {
			changed, at := c, length
			for _, setting := range strings.Split(one[:strings.LastIndex(one, " (")], " and ") {
				field, value, _ := strings.Cut(setting, "=")
				n, _ := strconv.Atoi(value)
				switch field {
				case "training.batch_size":
					changed.BatchSize = n
				case "training.packing_tokens":
					changed.PackingTokens = n
				case "training.rank":
					changed.Rank = n
				case "training.base_precision":
					changed.BasePrecision = value
				case "training.method":
					changed.Method, changed.BasePrecision = value, "auto"
				case "preprocessing.max_length":
					at = n
				case "training.workers":
					changed.Workers = n
				case "training.sharding":
					changed.Sharding = value
				case "training.engine":
					changed.Engine = value
				default:
					t.Fatalf("a hint names %q", field)
				}
			}
			if _, err := plan.Settle(changed, s, on(changed), plan.Data{Length: at}); err != nil {
				t.Fatalf("%s does not fit: %v", one, err)
			}
			if faults := (contract.Config{Training: changed}).WithDefaults().Validate(); len(faults) > 0 {
				t.Fatalf("%s is no valid config: %v", one, faults)
			}
		}
	})
}

// More of anything takes no less memory.
func TestTheEstimateRises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom([]plan.Shape{smol, llama1}).Draw(t, "shape")
		r := plan.Run{Rank: rapid.IntRange(1, 512).Draw(t, "rank"), Targets: []string{"all-linear"}, Batch: rapid.IntRange(1, 64).Draw(t, "batch"),
			Length: rapid.IntRange(1, 2048).Draw(t, "length"), Precision: "int8", Recompute: rapid.Bool().Draw(t, "recompute")}
		base := plan.MemoryOf(s, r).Total()
		for name, change := range map[string]func(r *plan.Run){
			"rank": func(r *plan.Run) { r.Rank++ }, "batch": func(r *plan.Run) { r.Batch++ }, "length": func(r *plan.Run) { r.Length++ },
			"precision": func(r *plan.Run) { r.Precision = "bf16" }, "dropout": func(r *plan.Run) { r.Dropout = true },
		} {
			more := r
			change(&more)
			if got := plan.MemoryOf(s, more).Total(); got <= base {
				t.Fatalf("more %s takes %d, less than %d", name, got, base)
			}
		}
		r.Recompute = !r.Recompute
		if other := plan.MemoryOf(s, r).Total(); (other < base) != r.Recompute {
			t.Fatalf("recompute=%v takes %d, the other way %d", r.Recompute, other, base)
		}
	})
}

func FuzzParseShape(f *testing.F) {
	f.Add([]byte(`{"hidden_size":8,"intermediate_size":8,"num_hidden_layers":1,"num_attention_heads":2,"vocab_size":9}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := plan.ParseShape(data)
		if err == nil && s.Parameters() <= 0 {
			t.Errorf("%+v has %d parameters", s, s.Parameters())
		}
	})
}
