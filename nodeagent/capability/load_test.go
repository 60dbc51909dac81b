package capability

import (
	"encoding/json"
	"testing"
)

func TestLoadsAreReadFromEachTool(t *testing.T) {
	smi, err := parseSMILoads("0, 97, 30123, 71\n1, [N/A], 12, [Not Supported]\n")
	if err != nil {
		t.Fatal(err)
	}
	rocm, err := parseROCmLoads([]byte(`{"card1":{"GPU use (%)":"3","Temperature (Sensor edge) (C)":"41.0","VRAM Total Used Memory (B)":"1048576"},
		"card0":{"GPU use (%)":"N/A"},"system":{"Driver version":"6.7"}}`))
	if err != nil {
		t.Fatal(err)
	}
	metal := parseMetalLoads(`+-o AGXAcceleratorG14X  <class AGXAcceleratorG14X>
    {
      "PerformanceStatistics" = {"In use system memory (driver)"=0,"Device Utilization %"=42,"Renderer Utilization %"=40,"In use system memory"=123456}
      "model" = "Apple M2 Max"
    }
`)
	for name, c := range map[string]struct {
		got  any
		want string
	}{
		"nvidia-smi": {smi, `[{"index":0,"util_percent":97,"memory_used_bytes":31586254848,"temperature_c":71},{"index":1,"memory_used_bytes":12582912}]`},
		"rocm-smi":   {rocm, `[{"index":0},{"index":1,"util_percent":3,"memory_used_bytes":1048576,"temperature_c":41}]`},
		"ioreg":      {metal, `[{"index":0,"util_percent":42,"memory_used_bytes":123456}]`},
	} {
		data, err := json.Marshal(c.got)
		if err != nil || string(data) != c.want {
			t.Errorf("%s: %s, want %s", name, data, c.want)
		}
	}
}

func TestBrokenLoadsAreErrors(t *testing.T) {
	if _, err := parseSMILoads("x, 1, 2, 3\n"); err == nil {
		t.Error("an index that is no number passes")
	}
	if _, err := parseROCmLoads([]byte("WARNING: no card")); err == nil {
		t.Error("what is no JSON passes")
	}
}
