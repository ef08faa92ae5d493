"""Compare an adapted model with the model it was made of, on texts that neither has seen.

    python examples/compare_answers.py my_model my_fast_model texts.csv

The file has the column `text`, and may have `label`, the name of the class. Prints the share of texts that the two
answer differently, the layers per text, and both accuracies.
"""

import argparse

import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from eat.runtime import AdaptiveClassifier

parser = argparse.ArgumentParser(description="Compare an adapted model with the model it was made of.")
parser.add_argument("given")
parser.add_argument("adapted")
parser.add_argument("file")
options = parser.parse_args()

table = pd.read_csv(options.file, keep_default_na=False)
texts = table["text"].tolist()
adapted = AdaptiveClassifier.load(options.adapted)
answers = adapted(texts, workers=torch.get_num_threads())

tokenizer = AutoTokenizer.from_pretrained(options.given)
model = AutoModelForSequenceClassification.from_pretrained(options.given).eval()
given = [""] * len(texts)
order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
for start in range(0, len(order), 32):
    rows = order[start : start + 32]
    length = adapted.manifest.max_length
    batch = tokenizer(
        [texts[row] for row in rows], padding=True, truncation=True, max_length=length, return_tensors="pt"
    )
    with torch.inference_mode():
        classes = model(**batch).logits.argmax(dim=-1).tolist()
    for row, number in zip(rows, classes, strict=True):
        given[row] = model.config.id2label[number]
    if start % 1600 == 0:
        print(f"the given model answered {start} of {len(texts)} texts", flush=True)

differing = sum(answer.label != label for answer, label in zip(answers, given, strict=True))
print(f"{differing} of {len(texts)} texts answered differently ({100 * differing / len(texts):.2f} %)")
print(f"{sum(answer.depth for answer in answers) / len(texts):.2f} layers per text")
if "label" in table:
    truth = table["label"].astype(str).tolist()
    for name, labels in (("given", given), ("adapted", [answer.label for answer in answers])):
        right = sum(label == expected for label, expected in zip(labels, truth, strict=True))
        print(f"accuracy of the {name} model: {100 * right / len(texts):.2f} %")
