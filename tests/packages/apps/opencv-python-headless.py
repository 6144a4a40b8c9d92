"""Find edges and contours in a drawn picture."""

import cv2
import numpy as np

from kluis.enclave import Enclave

app = Enclave("opencv-python-headless")


@app.ecall
def check() -> str:
    """Find edges and contours in a drawn picture."""
    picture = np.zeros((200, 200, 3), np.uint8)
    cv2.circle(picture, (60, 60), 30, (255, 255, 255), -1)
    cv2.rectangle(picture, (120, 120), (180, 180), (255, 255, 255), -1)
    edges = cv2.Canny(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), 50, 150)
    contours, _ = cv2.findContours(edges, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    done, png = cv2.imencode(".png", cv2.GaussianBlur(picture, (5, 5), 0))
    return f"{len(contours)} {done} {cv2.imdecode(png, cv2.IMREAD_COLOR).shape}"
