"""Fine-tune a stock classifier of transformers on a CSV file; nothing of this project is used.

    python examples/finetune_stock.py BACKBONE train.csv --to my_model --rows 8000
    eat adapt my_model --texts unlabelled.csv --to my_fast_model

BACKBONE is a folder or a name of the hub. The file has the columns `text` and `label`.
"""

import argparse

import pandas as pd
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed

parser = argparse.ArgumentParser(description="Fine-tune a stock classifier on a CSV file.")
parser.add_argument("backbone")
parser.add_argument("file")
parser.add_argument("--to", required=True)
parser.add_argument("--rows", type=int, help="only the first rows of the file")
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--max-length", type=int, default=128)
options = parser.parse_args()

set_seed(0)
table = pd.read_csv(options.file, keep_default_na=False).iloc[: options.rows]
labels = sorted(table["label"].unique())
tokenizer = AutoTokenizer.from_pretrained(options.backbone)
model = AutoModelForSequenceClassification.from_pretrained(
    options.backbone,
    num_labels=len(labels),
    id2label=dict(enumerate(labels)),
    label2id={label: number for number, label in enumerate(labels)},
)
steps_per_epoch = len(table) // 32
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, options.epochs * steps_per_epoch)
model.train()
for epoch in range(options.epochs):
    shuffled = table.sample(frac=1.0, random_state=epoch)
    for step in range(steps_per_epoch):
        rows = shuffled.iloc[32 * step : 32 * step + 32]
        batch = tokenizer(
            rows["text"].tolist(), padding=True, truncation=True, max_length=options.max_length, return_tensors="pt"
        )
        target = torch.tensor([labels.index(label) for label in rows["label"]])
        loss = model(**batch, labels=target).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 0:
            print(f"epoch {epoch + 1}, step {step} of {steps_per_epoch}, loss {loss.item():.3f}", flush=True)
model.save_pretrained(options.to)
tokenizer.save_pretrained(options.to)
