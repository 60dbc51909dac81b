// Reads a request from standard input, answers on standard output, both JSON.
//
//   {"model": "x.gguf", "loras": [{"filePath": "a.gguf", "scale": 1}],
//    "texts": ["..."], "plain": ["..."], "sequences": [[1, 2, 3]], "top": 0, "from": 0}
//
// texts are tokenized with special tokens recognised, plain ones without; for each
// sequence of ids the answer has, at every position, the most likely next token and
// the log probabilities (natural logarithm) of the whole vocabulary, or with top of
// the most likely ones.
import {getLlama} from "node-llama-cpp";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const request = JSON.parse(Buffer.concat(chunks).toString("utf8"));
const sequences = request.sequences ?? [];

const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: 2});
const model = await llama.loadModel({
    modelPath: request.model, gpuLayers: 0, useMmap: true, vocabOnly: sequences.length === 0
});

const answer = {
    bos: model.tokens.bos ?? -1, eos: model.tokens.eos ?? -1, eot: model.tokens.eot ?? -1,
    addsBos: model.tokens.shouldPrependBosToken,
    metadata: {name: model.fileInfo.metadata.general?.name ?? "", architecture: model.fileInfo.metadata.general?.architecture ?? ""},
    texts: (request.texts ?? []).map((text) => model.tokenize(text, true)),
    plain: (request.plain ?? []).map((text) => model.tokenize(text, false)),
    sequences: []
};

for (const ids of sequences) {
    const context = await model.createContext({
        contextSize: Math.max(256, ids.length + 8), batchSize: 512, sequences: 1, flashAttention: false, threads: 2,
        experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32", // F16 would be its noise, not ours
        lora: request.loras == null ? undefined : {adapters: request.loras}
    });
    const sequence = context.getSequence();
    const results = await sequence.controlledEvaluate(
        ids.map((id, at) => at < (request.from ?? 0) ? id : [id, {generateNext: {logits: true}}])
    );
    answer.sequences.push(results.slice(request.from ?? 0).map((result) => {
        const logits = [...result.next.logits.entries()].sort((a, b) => b[1] - a[1]);
        const max = logits[0][1];
        const total = max + Math.log(logits.reduce((sum, [, logit]) => sum + Math.exp(logit - max), 0));
        if (request.top > 0)
            return {top: logits[0][0], best: logits.slice(0, request.top).map(([id, logit]) => ({id, logprob: logit - total}))};
        const logprobs = new Array(logits.length);
        for (const [id, logit] of logits) logprobs[id] = logit - total;
        return {top: logits[0][0], logprobs};
    }));
    await context.dispose();
}

process.stdout.write(JSON.stringify(answer));
await model.dispose();
await llama.dispose();
