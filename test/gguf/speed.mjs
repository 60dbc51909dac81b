// Reads a request from standard input, answers on standard output, both JSON.
//
//   {"model": "x.gguf", "prompt": [1, 2, 3], "tokens": 128, "threads": 2}
//
// The prompt is continued by the most likely token again and again, past an end of
// text too. The answer has the seconds that loading took (model and context), those
// to the first token, and those from the first to the last, and the
// processor time of the latter.
import {getLlama} from "node-llama-cpp";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const request = JSON.parse(Buffer.concat(chunks).toString("utf8"));
const seconds = (since) => (performance.now() - since) / 1000;

const llama = await getLlama({gpu: false, build: "never", logLevel: "error", maxThreads: request.threads});
const began = performance.now();
const model = await llama.loadModel({modelPath: request.model, gpuLayers: 0, useMmap: true});
const context = await model.createContext({contextSize: 512, batchSize: 512, sequences: 1, threads: request.threads});
const load = seconds(began);

const written = [];
let prompt = 0, first = performance.now(), used = process.cpuUsage();
const asked = first;
for await (const token of context.getSequence().evaluate(request.prompt, {temperature: 0, yieldEogToken: true})) {
    if (written.length === 0) {
        prompt = seconds(asked);
        first = performance.now();
        used = process.cpuUsage();
    }
    written.push(token);
    if (written.length === request.tokens) break;
}
const decode = seconds(first);
used = process.cpuUsage(used);
process.stdout.write(JSON.stringify({load, prompt, decode, cpu: (used.user + used.system) / 1e6, tokens: written}));
await context.dispose();
await model.dispose();
await llama.dispose();
