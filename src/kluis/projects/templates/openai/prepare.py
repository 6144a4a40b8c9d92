"""The owner's part: write the weights, and seal them into models.sealed, which the image contains.

python project_name/prepare.py --key project_name.jwk

The embeddings are those of all-MiniLM-L6-v2. The chat model is a small transformer, which is trained here in
about a minute. With --weights, another folder is sealed instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kluis.host.models import new_key, read_key, seal_model

HERE = Path(__file__).parent


def main() -> None:
    """Write and seal."""
    parser = argparse.ArgumentParser(description="Write the weights, and seal them.")
    parser.add_argument(
        "--key", type=Path, required=True, help="the model's key; generated if it does not exist"
    )
    parser.add_argument("--weights", type=Path, help="a folder with embeddings/ and chat/")
    parser.add_argument("--seconds", type=float, default=60, help="of training")
    options = parser.parse_args()
    folder = options.weights or HERE / "weights"
    if options.weights is None:
        import export
        import train

        print(export.write_minilm(folder / "embeddings"))
        print(train.write_chat(folder / "chat", options.seconds))
    key = read_key(options.key) if options.key.exists() else new_key(options.key)
    header = seal_model(folder, HERE / "models.sealed", key)
    print(f"sealed: model {header.model_id().hex()}, under {options.key}: keep that file from the host")


if __name__ == "__main__":
    main()
