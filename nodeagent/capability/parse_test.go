package capability

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/tunemesh/tunemesh/api"
)

func TestControlGroupLimitsAreRespected(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	for name, c := range map[string]struct {
		fs    fstest.MapFS
		cores int // of 16
		mem   int64
	}{
		"none": {fstest.MapFS{}, 16, 0},
		"v2, the ancestor is narrower": {fstest.MapFS{
			"proc/self/cgroup":                  file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/cpu.max":         file("800000 100000\n"),
			"sys/fs/cgroup/a/cpu.max":           file("250000 100000\n"),
			"sys/fs/cgroup/a/b/memory.max":      file("max\n"),
			"sys/fs/cgroup/a/memory.max":        file("4294967296\n"),
			"sys/fs/cgroup/cgroup.controllers":  file("cpu memory\n"),
			"sys/fs/cgroup/a/cgroup.procs":      file(""),
			"sys/fs/cgroup/a/b/cpu.weight":      file("100"),
			"sys/fs/cgroup/a/b/memory.swap.max": file("max"),
		}, 3, 4 << 30},
		"v2 in a container, where the host's path is absent": {fstest.MapFS{
			"proc/self/cgroup":         file("0::/docker/0123\n"),
			"sys/fs/cgroup/cpu.max":    file("50000 100000\n"),
			"sys/fs/cgroup/memory.max": file("1073741824\n"),
		}, 1, 1 << 30},
		"v1": {fstest.MapFS{
			"proc/self/cgroup": file("9:memory:/c\n4:cpu,cpuacct:/c\n1:name=systemd:/\n"),
			"sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_quota_us":  file("400000\n"),
			"sys/fs/cgroup/cpu,cpuacct/c/cpu.cfs_period_us": file("100000\n"),
			"sys/fs/cgroup/memory/c/memory.limit_in_bytes":  file("2147483648\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":    file("9223372036854771712\n"),
		}, 4, 2 << 30},
		"v1 without limits": {fstest.MapFS{
			"proc/self/cgroup":                           file("9:memory:/\n4:cpu:/\n"),
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us":         file("-1\n"),
			"sys/fs/cgroup/cpu/cpu.cfs_period_us":        file("100000\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 16, 0},
		"nonsense": {fstest.MapFS{
			"proc/self/cgroup":         file("0::/../../..\nx\n::\n"),
			"sys/fs/cgroup/cpu.max":    file("0 0"),
			"sys/fs/cgroup/memory.max": file("-5"),
		}, 16, 0},
	} {
		l := readLimits(c.fs)
		if got := l.cores(16); got != c.cores || l.memory != c.mem {
			t.Errorf("%s: %d cores and %d bytes, want %d and %d", name, got, l.memory, c.cores, c.mem)
		}
	}
}

func TestNvidiaSMIIsRead(t *testing.T) {
	got, err := parseSMI("0, NVIDIA GeForce RTX 4090, GPU-5c1f, 24564, 24111, 570.86.15, 8.9\n1, NVIDIA GB10, GPU-77aa, [N/A], [N/A], 580.95.05, 12.1\n")
	want := []api.GPU{
		{Index: 0, Kind: "cuda", Name: "NVIDIA GeForce RTX 4090", UUID: "GPU-5c1f", MemoryBytes: 24564 << 20, MemoryFreeBytes: 24111 << 20, Driver: "570.86.15", ComputeCapability: "8.9"},
		{Index: 1, Kind: "cuda", Name: "NVIDIA GB10", UUID: "GPU-77aa", Driver: "580.95.05", ComputeCapability: "12.1"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"0, too, few\n", "x,a,b,1,1,d,c\n", "-1,a,b,1,1,d,c\n"} {
		if got, err := parseSMI(bad); err == nil || len(got) > 0 {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
	if got, err := parseSMI(""); err != nil || got != nil {
		t.Errorf("no device: %+v, %v", got, err)
	}
}

func TestROCmIsRead(t *testing.T) {
	got, err := parseROCm([]byte(`{"card1":{"Unique ID":"0x22","Card Series":"N/A","Card Model":"0x744c","VRAM Total Memory (B)":"zero"},"card0":{"Unique ID":"0x11","VRAM Total Memory (B)":"25753026560","VRAM Total Used Memory (B)":"25753026","Card Series":"Radeon RX 7900 XTX","GFX Version":"gfx1100"},"system":{"Driver version":"6.8.5"}}`))
	want := []api.GPU{
		{Index: 0, Kind: "rocm", Name: "Radeon RX 7900 XTX", UUID: "0x11", MemoryBytes: 25753026560, MemoryFreeBytes: 25753026560 - 25753026, Driver: "6.8.5", ComputeCapability: "gfx1100"},
		{Index: 1, Kind: "rocm", Name: "0x744c", UUID: "0x22", Driver: "6.8.5"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMetalIsRead(t *testing.T) {
	data, err := os.ReadFile("testdata/system_profiler_m2.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseMetal(data, 16<<30)
	want := []api.GPU{{Kind: "metal", Name: "Apple M2 (10 cores)", MemoryBytes: 16 << 30, ComputeCapability: "metal3"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := parseMetal([]byte(`{"SPDisplaysDataType":[{"sppci_model":"old","spdisplays_metal":"spdisplays_notsupported"}]}`), 1); err != nil || len(got) != 0 {
		t.Errorf("a device without Metal: %+v, %v", got, err)
	}
}

// The tools' output is not ours: whatever they print, the agent lives.
func FuzzTools(f *testing.F) {
	f.Add([]byte("0, NVIDIA GeForce RTX 4090, GPU-5c1f, 24564, 24111, 570.86.15, 8.9\n"))
	f.Add([]byte(`{"card0":{"VRAM Total Memory (B)":"1","VRAM Total Used Memory (B)":"2"},"system":null}`))
	f.Add([]byte("0, 97, 30123, 71\n"))
	f.Add([]byte(`"PerformanceStatistics" = {"Device Utilization %"=42,"In use system memory"=1}`))
	f.Add([]byte(`{"SPDisplaysDataType":[{"sppci_model":"x","spdisplays_metal":"spdisplays_metal3","spdisplays_vendor":"sppci_vendor_Apple"}]}`))
	f.Fuzz(func(t *testing.T, out []byte) {
		smi, _ := parseSMI(string(out))
		amd, _ := parseROCm(out)
		apple, _ := parseMetal(out, 1)
		for _, g := range append(append(smi, amd...), apple...) {
			if g.Index < 0 || g.MemoryBytes < 0 || g.MemoryFreeBytes < 0 {
				t.Fatalf("%+v from %q", g, out)
			}
		}
		loads, _ := parseSMILoads(string(out))
		amdLoads, _ := parseROCmLoads(out)
		for _, l := range append(append(loads, amdLoads...), parseMetalLoads(string(out))...) {
			if l.Index < 0 || l.MemoryUsedBytes != nil && *l.MemoryUsedBytes < 0 {
				t.Fatalf("%+v from %q", l, out)
			}
			if _, err := json.Marshal(l); err != nil {
				t.Fatalf("%+v from %q: %v", l, out, err)
			}
		}
	})
}
