package export

import (
	"fmt"
	"image/color"
	"math"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/tunemesh/tunemesh/trainer/training/history"
)

// Two colours that stay apart for colour-blind eyes and in grey (Okabe and Ito).
var (
	trainColor = color.RGBA{R: 0x00, G: 0x72, B: 0xb2, A: 0xff}
	evalColor  = color.RGBA{R: 0xd5, G: 0x5e, B: 0x00, A: 0xff}
	gridColor  = color.Gray{Y: 0xe4}
)

// Curve draws the losses of a training over its steps as a PNG file.
func Curve(log history.Log, title, path string) (err error) {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(8)
	p.X.Label.Text = "step"
	p.Y.Label.Text = "loss (nats per completion token)"
	p.Y.Min = 0
	p.Legend.Top = true
	p.Legend.Padding = vg.Points(2)
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridColor, gridColor
	p.Add(grid)

	var train, eval plotter.XYs
	for _, s := range log.Steps {
		train = appendFinite(train, s.Step, s.Loss)
	}
	for _, e := range log.Evaluations {
		eval = appendFinite(eval, e.Step, e.EvalLoss)
	}
	if len(train) > 0 {
		line, err := plotter.NewLine(train)
		if err != nil {
			return fmt.Errorf("export: training curve: %w", err)
		}
		line.Color, line.Width = trainColor, vg.Points(2)
		p.Add(line)
		p.Legend.Add("training", line)
	}
	if len(eval) > 0 {
		line, points, err := plotter.NewLinePoints(eval)
		if err != nil {
			return fmt.Errorf("export: training curve: %w", err)
		}
		line.Color, line.Width = evalColor, vg.Points(2)
		line.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
		points.Color, points.Shape, points.Radius = evalColor, draw.CircleGlyph{}, vg.Points(3.5)
		p.Add(line, points)
		p.Legend.Add("validation", line, points)
	}
	if len(train)+len(eval) == 0 {
		p.X.Min, p.X.Max, p.Y.Max = 0, 1, 1
	}

	canvas := vgimg.NewWith(vgimg.UseWH(8*vg.Inch, 5*vg.Inch), vgimg.UseDPI(120))
	p.Draw(draw.Crop(draw.New(canvas), vg.Points(8), -vg.Points(14), vg.Points(8), -vg.Points(8)))
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("export: training curve: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("export: training curve: %w", cerr)
		}
	}()
	if _, err := (vgimg.PngCanvas{Canvas: canvas}).WriteTo(f); err != nil {
		return fmt.Errorf("export: training curve: %w", err)
	}
	return nil
}

func appendFinite(xy plotter.XYs, step int, loss float64) plotter.XYs {
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return xy
	}
	return append(xy, plotter.XY{X: float64(step), Y: loss})
}
