package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// childVariable makes this test program a stage's process: it names its input document.
const childVariable = "TUNEMESH_TEST_EXPORT_INPUT"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

func child() int {
	raw, err := os.ReadFile(os.Getenv(childVariable))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	in, err := contract.ParseInput(raw)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	stop, most := make(chan struct{}), make(chan string)
	go sample(stop, most)
	result, err := export.Run(context.Background(), in, contract.NewEmitter(os.Stdout, "ExportAgent", time.Now))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	close(stop)
	fmt.Println(result.Metrics)
	fmt.Println(<-most)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(string(status))
	return 0
}

// sample says at which moment the process was largest, and what of it was mapped files.
func sample(stop chan struct{}, most chan string) {
	line := regexp.MustCompile(`Rss(Anon|File):\s*(\d+) kB`)
	top, said := 0, ""
	for {
		select {
		case <-stop:
			most <- said
			return
		case <-time.After(10 * time.Millisecond):
		}
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			continue
		}
		sum, words := 0, ""
		for _, m := range line.FindAllSubmatch(status, -1) {
			kb, _ := strconv.Atoi(string(m[2]))
			sum += kb
			words += fmt.Sprintf(" Rss%s %d MB", m[1], kb>>10)
		}
		if sum > top {
			top, said = sum, "largest:"+words
		}
	}
}

// The stage needs memory for the largest tensor and not for the model: merging, all
// formats, and the proof of each.
func TestTheModelIsNeverInMemoryAsAWhole(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the peak is read from /proc")
	}
	if os.Getenv("TUNEMESH_SLOW") == "" {
		t.Skip("a smaller model than one of 360 MB would fit into the bound as a whole: set TUNEMESH_SLOW=1")
	}
	const layers, width = 48, 512
	for _, dtype := range []string{weights.BF16, weights.F32, weights.F16} {
		t.Run(dtype, func(t *testing.T) {
			in := tunedtest.Job(t, tunedtest.Tickets(60), `{"model":"synthetic","export":{"gguf":["f32","f16","bf16","q8_0","q4_k_m"]}}`, dtype)
			dir, err := in.Dir(contract.ModelInputs, "")
			if err != nil {
				t.Fatal(err)
			}
			total, largest := enlarge(t, dir, layers, width, dtype)
			tunedtest.AddAdapter(t, &in, 0.02, nil)
			in.Stage, in.OutputDir = "export", t.TempDir()
			document, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "input.json")
			if err := os.WriteFile(path, document, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), childVariable+"="+path)
			began := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %.3000s", err, out)
			}
			found := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(out)
			if found == nil {
				t.Fatalf("no VmHWM in %.2000s", out)
			}
			kb, err := strconv.ParseInt(string(found[1]), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			peak, bound := kb<<10, 4*largest+200<<20
			speeds := regexp.MustCompile(`\w+_mb_per_second:[0-9.]+`).FindAll(out, -1)
			if at := bytes.Index(out, []byte("largest:")); at >= 0 {
				t.Logf("%s", bytes.TrimSpace(bytes.SplitN(out[at:], []byte("\n"), 2)[0]))
			}
			t.Logf("%d MB of %s, the largest tensor %.1f MB: peak %d MB, allowed %d MB, %.1f s, %s",
				total>>20, dtype, float64(largest)/(1<<20), peak>>20, bound>>20, time.Since(began).Seconds(), strings.TrimSpace(string(bytes.Join(speeds, []byte(" ")))))
			if peak > bound {
				t.Errorf("the stage took %d MB at its peak, %d MB are allowed", peak>>20, bound>>20)
			}
			if total < bound {
				t.Errorf("the model of %d MB fits into the bound of %d MB as a whole: the test would not see it loaded", total>>20, bound>>20)
			}
		})
	}
}

// enlarge replaces the model's weights by larger ones of as many layers, and gives
// their bytes and those of the largest tensor.
func enlarge(t testing.TB, dir string, layers, width int, dtype string) (total, largest int64) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]any{"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64} {
		config[key] = value
	}
	if raw, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := model.ParseConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	var infos []weights.TensorInfo
	for _, spec := range cfg.Tensors() {
		info := weights.TensorInfo{Name: spec.Name, DType: dtype, Shape: spec.Shape}
		n, err := info.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		infos, total, largest = append(infos, info), total+n, max(largest, n)
	}
	w, err := weights.NewWriter(filepath.Join(dir, weights.SingleName), infos, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	rng := rand.New(rand.NewPCG(3, 5))
	for i, info := range infos {
		values := make([]float32, cfg.Tensors()[i].Len())
		for j := range values {
			values[j] = 1
			if len(info.Shape) == 2 {
				values[j] = float32(rng.NormFloat64()) * 0.04
			}
		}
		if err := w.WriteFloat32(info.Name, values); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return total, largest
}
