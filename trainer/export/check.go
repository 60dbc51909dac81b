package export

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// Check says, before anything is trained, why the model in a Hugging Face folder
// could not be exported later: its architecture, its tokenizer, a tensor that is
// missing, a GGUF type that is not written. list has GGUF types as the job's
// config has them; with none the merged model alone is checked. It reads no
// weights.
func Check(modelDir string, list []string) error {
	for i, f := range list {
		if types[f] == "" {
			return &contract.Error{Class: contract.ClassConfig, Code: "UNKNOWN_FORMAT", Field: fmt.Sprintf("export.gguf[%d]", i), Message: fmt.Sprintf("GGUF type %q is not written", f), Hint: "choose of " + formats()}
		}
	}
	cfg, err := tuned.Config(modelDir)
	if err != nil {
		return err
	}
	if _, _, err := tuned.Tokenizer(modelDir); err != nil {
		return err
	}
	files, err := weights.Open(modelDir)
	if err != nil {
		return tuned.Unusable(err)
	}
	defer files.Close()
	for _, spec := range cfg.Tensors() {
		info, ok := files.Info(spec.Name)
		switch {
		case !ok:
			return tuned.Unusable(fmt.Errorf("%s lacks the tensor %s", filepath.Base(modelDir), spec.Name))
		case !slices.Equal(info.Shape, spec.Shape):
			return tuned.Unusable(fmt.Errorf("tensor %s has shape %v, config.json asks for %v", spec.Name, info.Shape, spec.Shape))
		case dtypeName[info.DType] == "":
			return tuned.Unusable(fmt.Errorf("tensor %s has dtype %s; F32, F16 and BF16 are written", spec.Name, info.DType))
		}
	}
	if len(list) == 0 {
		return nil
	}
	if err := gguf.Exportable(modelDir); err != nil {
		return &contract.Error{Class: contract.ClassUnsupported, Code: "NOT_CONVERTIBLE", Field: "export.gguf",
			Message: fmt.Sprintf("the model cannot be written as GGUF (%s): %v", strings.Join(list, ", "), err), Hint: "choose another base model, or set export.skip_merged"}
	}
	return nil
}

// dtypeName is how config.json spells the number formats.
var dtypeName = map[string]string{weights.F32: "float32", weights.F16: "float16", weights.BF16: "bfloat16"}
