"""Draw, blur, and write as PNG and JPEG in memory."""

import io

from PIL import Image, ImageDraw, ImageFilter

from kluis.enclave import Enclave

app = Enclave("pillow")


@app.ecall
def check() -> str:
    """Draw, blur, and write as PNG and JPEG in memory."""
    image = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(image).ellipse((50, 10, 150, 90), fill="navy")
    written = []
    for kind in ("PNG", "JPEG", "WEBP"):
        file = io.BytesIO()
        image.filter(ImageFilter.GaussianBlur(2)).save(file, kind)
        written.append(Image.open(io.BytesIO(file.getvalue())).size)
    return f"{written} {image.getpixel((100, 50))}"
