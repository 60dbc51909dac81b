package hub

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// choose lists the files that are needed: the weights, or none of them if an index has to
// say first which they are, and those that go before.
func (d *download) choose(all []file) (first, weights []file, err error) {
	byName := named(all)
	repo := d.source.Repo
	if d.source.File != "" {
		f, ok := byName[d.source.File]
		if ok {
			return nil, []file{f}, nil
		}
		if list := ggufs(all); list != "" {
			return nil, nil, &Error{Message: fmt.Sprintf("%s has no file %s", repo, d.source.File), Hint: "its GGUF files are " + list}
		}
		return nil, nil, &Error{Message: fmt.Sprintf("%s has no file %s, and no other GGUF file", repo, d.source.File), Hint: "take the whole model, hf:" + repo}
	}
	if _, ok := byName["config.json"]; !ok {
		if list := ggufs(all); list != "" {
			return nil, nil, &Error{Message: fmt.Sprintf("%s holds GGUF files", repo), Hint: fmt.Sprintf("name one, hf:%s/FILE.gguf, of %s", repo, list)}
		}
		if _, ok := byName["adapter_config.json"]; ok {
			return nil, nil, &Error{Message: repo + " is a PEFT adapter, not a whole model", Hint: "pull the base model that its adapter_config.json names as base_model_name_or_path"}
		}
		return nil, nil, &Error{Message: repo + " has no config.json: it is no model for transformers", Hint: "look for the model in another repository"}
	}
	_, hasJSON := byName["tokenizer.json"]
	_, hasPieces := byName["tokenizer.model"]
	if !hasJSON && !hasPieces {
		return nil, nil, &Error{Message: repo + " has neither tokenizer.json nor tokenizer.model", Hint: "look for the model in another repository; only these tokenizers are read"}
	}
	for _, f := range all {
		if f, ok := byName[f.Name]; ok && small.MatchString(f.Name) && (f.Name != "tokenizer.model" || !hasJSON) {
			first = append(first, f)
		}
	}
	if f, ok := byName[weightsName]; ok {
		return first, []file{f}, nil
	}
	index, ok := byName[indexName]
	if !ok {
		fault := &Error{Message: fmt.Sprintf("%s has neither %s nor %s: only weights as safetensors are taken", repo, weightsName, indexName), Hint: d.otherWeights(all)}
		return nil, nil, fault
	}
	return append(first, index), nil, nil
}

// otherWeights says what can be done with a repository that has no safetensors.
func (d *download) otherWeights(all []file) string {
	if list := ggufs(all); list != "" {
		return fmt.Sprintf("take one of its GGUF files, hf:%s/FILE.gguf, of %s", d.source.Repo, list)
	}
	return fmt.Sprintf("look among its branches (hf:%s@refs/pr/N is one that a proposal made, often with safetensors), or save it as safetensors with transformers, save_pretrained(DIR), and import DIR", d.source.Repo)
}

// shards lists the weights that the index names.
func (d *download) shards(all []file) ([]file, error) {
	names, err := shardsOf(filepath.Join(d.dir, indexName))
	if err != nil {
		return nil, err
	}
	byName := named(all)
	var out []file
	for _, name := range names {
		f, ok := byName[name]
		if !ok || path.Base(name) != name {
			return nil, &Error{Message: fmt.Sprintf("%s lists the shard %s, which is not there", indexName, name), Hint: "the upload of this revision is not whole: take another one, hf:" + d.source.Repo + "@REVISION, or tell its owner"}
		}
		out = append(out, f)
	}
	return out, nil
}

// named are the files whose names do not lead out of a folder.
func named(all []file) map[string]file {
	out := map[string]file{}
	for _, f := range all {
		if local(f.Name) {
			out[f.Name] = f
		}
	}
	return out
}

func ggufs(all []file) string {
	var names []string
	for _, f := range all {
		if strings.HasSuffix(f.Name, ".gguf") && len(names) < 20 {
			names = append(names, f.Name)
		}
	}
	return strings.Join(names, ", ")
}

func shardsOf(path string) ([]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var index struct {
		Map map[string]string `json:"weight_map"`
	}
	if len(raw) > maxIndex || json.Unmarshal(raw, &index) != nil || len(index.Map) == 0 {
		return nil, &Error{Message: indexName + " lists no shards", Hint: "the upload of this revision is not whole: take another one, or tell its owner"}
	}
	var out []string
	for _, name := range index.Map {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}
