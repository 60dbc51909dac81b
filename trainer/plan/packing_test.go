package plan_test

import (
	"regexp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/plan"
)

func TestPackedMicroBatchesHoldEverySampleOnceWithinTheBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.IntRange(1, 300), 1, 200).Draw(t, "lengths")
		budget := rapid.IntRange(1, 2000).Draw(t, "budget")
		padded := rapid.Bool().Draw(t, "padded")
		micros := plan.Pack(lengths, budget, padded)
		var seen []int
		var taken []int
		for _, m := range micros {
			tokens := 0
			for _, i := range m {
				if padded {
					tokens += lengths[m[0]]
				} else {
					tokens += lengths[i]
				}
				if lengths[i] > lengths[m[0]] {
					t.Fatalf("%v: the longest of %v does not come first", lengths, m)
				}
			}
			if tokens > budget && len(m) > 1 {
				t.Fatalf("%v: %v has %d tokens of %d", lengths, m, tokens, budget)
			}
			seen, taken = append(seen, m...), append(taken, tokens)
		}
		slices.Sort(seen)
		for i, s := range seen {
			if i != s {
				t.Fatalf("samples %v of %d", seen, len(lengths))
			}
		}
		// No two neighbours, and without padding no two at all, could be one.
		for i, a := range taken {
			for _, b := range taken[i+1:] {
				if !padded && a+b <= budget {
					t.Fatalf("micro-batches of %d and %d tokens stand apart in a budget of %d", a, b, budget)
				}
			}
		}
	})
}

func TestPackingFillsMicroBatchesByTheirTokens(t *testing.T) {
	lengths := []int{10, 90, 30, 20, 60, 10}
	for _, c := range []struct {
		padded bool
		want   [][]int
	}{
		{false, [][]int{{1, 0}, {4, 2, 5}, {3}}},  // 100, 100 and 20 tokens
		{true, [][]int{{1}, {4}, {2, 3, 0}, {5}}}, // 90, 60, 3 x 30 and 10
	} {
		if got := plan.Pack(lengths, 100, c.padded); !slices.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("padded %v: %v, want %v", c.padded, got, c.want)
		}
	}
}

// mixed are many short samples and a few long ones, as people's data are.
func mixed() []int {
	lengths := slices.Repeat([]int{24, 30, 40, 50, 60}, 20)
	for i := range 5 {
		lengths[20*i] = 1600
	}
	return lengths
}

func TestShortSamplesArePackedWhereTheLongestWouldNotFitAtOnce(t *testing.T) {
	for _, c := range []struct {
		name, config    string
		memory          float64
		lengths         []int
		batch, packing  int // 0: not packed
		reason, refused string
	}{
		{"all fits", ``, 32, mixed(), 8, 0, ``, ""},
		{"little memory", ``, 3, mixed(), 8, 1600, `^a step has 8 samples, of 120 tokens on average and 1600 at most: packed, about 1 micro-batch; that fits, and 8 of the longest at once would not$`, ""},
		{"little memory, but all are as long", ``, 3, slices.Repeat([]int{1600}, 40), 1, 0, ``, ""},
		{"as asked for", `"batch_size":1,"gradient_accumulation":32,"packing_tokens":2048`, 8, mixed(), 1, 2048, `32 samples.*about 2 micro-batches rather than 32$`, ""},
		{"as asked for, in vain", `"batch_size":16,"packing_tokens":512`, 0, mixed(), 16, 512, `about 4 micro-batches, and 1 without packing, which gains nothing here$`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := plan.Settle(training(c.config), smol, machine(c.memory), plan.Data{Lengths: c.lengths})
			if err != nil {
				t.Fatal(err)
			}
			tr, reason := out.Training, ""
			for _, s := range out.Settings {
				t.Logf("%s is %s: %s", s.Field, s.Value, s.Reason)
				if s.Field == "training.packing_tokens" {
					reason = s.Reason
				}
			}
			if tr.BatchSize != c.batch || tr.PackingTokens != c.packing {
				t.Errorf("batch %d, packed by %d; want %d and %d", tr.BatchSize, tr.PackingTokens, c.batch, c.packing)
			}
			if !regexp.MustCompile(c.reason).MatchString(reason) || (c.reason == "") != (reason == "") {
				t.Errorf("reason %q", reason)
			}
		})
	}
}

// What is reserved is what the largest micro-batch takes that there can be.
func TestTheEstimateKnowsOfPacking(t *testing.T) {
	for _, c := range []struct {
		config string
		data   plan.Data
		tokens int
	}{
		{`"batch_size":4,"gradient_accumulation":8,"packing_tokens":2048`, plan.Data{Lengths: mixed()}, 2048},
		{`"batch_size":4,"gradient_accumulation":8,"packing_tokens":64`, plan.Data{Lengths: mixed()}, 1600}, // a long one goes alone
		{`"batch_size":4,"packing_tokens":100000`, plan.Data{Lengths: mixed()}, 4 * 1600},                   // a step is no larger
		{`"batch_size":4,"packing_tokens":1024`, plan.Data{Length: 512}, 1024},
		{`"packing_tokens":100000`, plan.Data{Length: 512}, 8 * 512},
	} {
		out, err := plan.Settle(training(c.config), smol, machine(0), c.data)
		if err != nil || out.Run.Tokens != c.tokens {
			t.Errorf("%s: %d tokens, want %d (%v)", c.config, out.Run.Tokens, c.tokens, err)
		}
	}
}
