package export_test

import (
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/training/history"
)

func TestCurveShowsBothLosses(t *testing.T) {
	var log history.Log
	for i := range 30 {
		log.Steps = append(log.Steps, history.Step{Step: i * 10, Loss: 3 / (1 + float64(i)/5)})
	}
	for i := range 3 {
		log.Evaluations = append(log.Evaluations, history.Evaluation{Step: (i + 1) * 95, EvalLoss: 1.4 / float64(i+1)})
	}
	path := filepath.Join(t.TempDir(), "training_curve.png")
	if keep := os.Getenv("TUNEMESH_TEST_KEEP"); keep != "" {
		path = filepath.Join(keep, "training_curve.png")
	}
	if err := export.Curve(log, "tunemesh-mini, LoRA r=8", path); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	blue, orange := 0, 0
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			switch r, g, b, _ := img.At(x, y).RGBA(); {
			case r>>8 == 0x00 && g>>8 == 0x72 && b>>8 == 0xb2:
				blue++
			case r>>8 == 0xd5 && g>>8 == 0x5e && b>>8 == 0x00:
				orange++
			}
		}
	}
	if blue < 500 || orange < 300 {
		t.Errorf("%d pixels of the training line and %d of the validation line", blue, orange)
	}
}

func TestCurveOfAnEmptyLogIsStillAPicture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "training_curve.png")
	if err := export.Curve(history.Log{}, "nothing yet", path); err != nil {
		t.Fatal(err)
	}
}
