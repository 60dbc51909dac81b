package capability

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// smiQuery are the columns asked for, in the order parsed.
const smiQuery = "index,name,uuid,memory.total,memory.free,driver_version,compute_cap"

// nvidiaSMI asks NVIDIA's command line tool, for builds without cgo.
func nvidiaSMI(ctx context.Context) []api.GPU {
	out, found, err := ask(ctx, "nvidia-smi", "--query-gpu="+smiQuery, "--format=csv,noheader,nounits")
	if !found || err != nil {
		return nil // without a working driver there is no usable GPU
	}
	gpus, _ := parseSMI(string(out))
	return gpus
}

// parseSMI reads nvidia-smi's CSV: memory in MiB, "[N/A]" or "[Not Supported]"
// for what a device does not tell. Rows before a faulty one are returned with
// the error.
func parseSMI(out string) ([]api.GPU, error) {
	r := csv.NewReader(strings.NewReader(out))
	r.TrimLeadingSpace = true
	r.FieldsPerRecord = strings.Count(smiQuery, ",") + 1
	r.LazyQuotes = true
	var gpus []api.GPU
	for {
		row, err := r.Read()
		if err == io.EOF {
			return gpus, nil
		}
		if err != nil {
			return gpus, fmt.Errorf("capability: nvidia-smi: %w", err)
		}
		index, err := strconv.Atoi(row[0])
		if err != nil || index < 0 {
			return gpus, fmt.Errorf("capability: nvidia-smi: device index %q", row[0])
		}
		g := api.GPU{Index: index, Kind: "cuda", Name: known(row[1]), UUID: known(row[2]), MemoryBytes: mebibytes(row[3]), MemoryFreeBytes: mebibytes(row[4]), Driver: known(row[5]), ComputeCapability: known(row[6])}
		gpus = append(gpus, g)
	}
}

func known(s string) string {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "[") {
		return ""
	}
	return s
}

func mebibytes(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>20 {
		return 0
	}
	return n << 20
}
