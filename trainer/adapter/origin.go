package adapter

// Origin says what an adapter was made from. It stands in the header of
// adapter_model.safetensors: adapter_config.json has no field for it, and PEFT
// warns of every field there that it does not know.
type Origin struct {
	BaseSHA256 string // of the base model's weights; see trainer/training
	// Continues names the adapter that the training went on from, empty where it
	// began anew: a job's id, or a folder's name. The hash is of its weights' file.
	Continues       string
	ContinuesSHA256 string
}

const (
	baseKey            = "tunemesh.base_sha256"
	continuesKey       = "tunemesh.continues"
	continuesSHA256Key = "tunemesh.continues_sha256"
)

// Metadata are the entries of the file's header.
func (o Origin) Metadata() map[string]string {
	out := map[string]string{}
	for key, value := range map[string]string{baseKey: o.BaseSHA256, continuesKey: o.Continues, continuesSHA256Key: o.ContinuesSHA256} {
		if value != "" {
			out[key] = value
		}
	}
	return out
}

func originOf(metadata map[string]string) Origin {
	return Origin{BaseSHA256: metadata[baseKey], Continues: metadata[continuesKey], ContinuesSHA256: metadata[continuesSHA256Key]}
}
