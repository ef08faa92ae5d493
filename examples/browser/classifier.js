// Runs an exported model in a browser; the same calls work in Node with onnxruntime-node.

import { Tokenizer } from "@huggingface/tokenizers";
import * as ort from "onnxruntime-web";

const FORMAT = 1;

ort.env.wasm.numThreads = 1; // more threads need a page that is cross-origin isolated

export class AdaptiveClassifier {
  constructor(manifest, tokenizer, session) {
    Object.assign(this, { manifest, tokenizer, session });
  }

  // folder: the address of a folder that `eat export` wrote
  static async load(folder) {
    const manifest = await (await fetched(`${folder}/manifest.json`)).json();
    if (manifest.format > FORMAT) {
      throw new Error(`the format of this export is ${manifest.format}; update this example`);
    }
    const tokenizer = new Tokenizer(await (await fetched(`${folder}/tokenizer.json`)).json(), {});
    const model = new Uint8Array(await (await fetched(`${folder}/model.onnx`)).arrayBuffer());
    const session = await ort.InferenceSession.create(model, {
      executionProviders: ["wasm"],
      logSeverityLevel: 3, // a warning says that thresholds and temperatures can be replaced
    });
    return new AdaptiveClassifier(manifest, tokenizer, session);
  }

  // the token ids of a text, at most max_length of them; the last is [SEP]
  tokens(text) {
    const { ids } = this.tokenizer.encode(text);
    const most = this.manifest.max_length;
    return ids.length <= most ? ids : [...ids.slice(0, most - 1), ids.at(-1)];
  }

  // the answer to a text, as eat.runtime gives it, with the milliseconds of the call
  async classify(text) {
    const began = performance.now();
    const ids = this.tokens(text);
    const found = await this.session.run({
      ids: int64(ids),
      types: int64(ids.map(() => 0)), // one text is segment 0
    });
    const { labels, operating_point: point } = this.manifest;
    const probabilities = Array.from(found.probabilities.data);
    const best = probabilities.indexOf(Math.max(...probabilities));
    return {
      label: labels[best],
      probability: probabilities[best],
      probabilities: Object.fromEntries(labels.map((label, index) => [label, probabilities[index]])),
      depth: Number(found.depth.data[0]),
      exit_reason: found.reason.data[0] ? point.rule.join("+") : "last_layer",
      kept: Array.from(found.kept.data, Number),
      ms: performance.now() - began,
    };
  }
}

function int64(values) {
  return new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [values.length]);
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) {
    throw new Error(`${address}: ${response.status} ${response.statusText}`);
  }
  return response;
}
