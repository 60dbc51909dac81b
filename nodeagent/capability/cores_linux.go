package capability

import (
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// usableCores is how many processors this process may run on. The runtime's
// number is that of the start; this is the one of now.
func usableCores() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err == nil && set.Count() > 0 {
		return set.Count()
	}
	return runtime.NumCPU()
}

// platformModel names processors that have no name of their own, as most ARM.
func platformModel() string {
	for _, path := range []string{"/sys/firmware/devicetree/base/model", "/sys/class/dmi/id/product_name"} {
		if data, err := os.ReadFile(path); err == nil {
			if name := strings.Trim(string(data), " \x00\n"); name != "" {
				return name
			}
		}
	}
	return runtime.GOARCH
}
