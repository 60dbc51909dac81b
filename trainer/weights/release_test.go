package weights_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// What was released is read from the file again, and neighbours are not touched.
func TestReleasedBytesComeBack(t *testing.T) {
	var tensors []weights.Tensor
	for i, name := range []string{"a", "b", "c"} {
		data := bytes.Repeat([]byte{byte(i + 1), 7}, 5000)
		tensors = append(tensors, weights.Tensor{TensorInfo: weights.TensorInfo{Name: name, DType: weights.BF16, Shape: []int{5000}}, Data: data})
	}
	path := filepath.Join(t.TempDir(), weights.SingleName)
	if err := weights.WriteFile(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Release("there is none")
	for range 2 {
		for _, want := range tensors {
			_, _, data, err := f.Tensor(want.Name)
			if err != nil || !bytes.Equal(data, want.Data) {
				t.Fatalf("%s: %v, equal: %v", want.Name, err, bytes.Equal(data, want.Data))
			}
			f.Release(want.Name)
		}
	}
}
