"""fastdigit in a FastAPI application.

    uvicorn fastapi_app:app
    curl --data-binary @photo.png http://127.0.0.1:8000/digit

The model is opened once, when this module is imported. It is immutable and releases the GIL, so
requests share it, and so do workers that are forked later (`gunicorn --preload`).
"""

import asyncio
from typing import Annotated

import numpy as np
from fastapi import Body, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field

import fastdigit
from fastdigit.errors import InputError
from fastdigit.images import decode

MAX_BYTES = 4 << 20
MAX_IMAGES = 1024

app = FastAPI(title="Digits")
model = fastdigit.load()
pictures = asyncio.Semaphore(2)


class Digit(BaseModel):
    label: int
    probability: float


Pixel = Annotated[int, Field(ge=0, le=255)]
Image = Annotated[list[Pixel], Field(min_length=784, max_length=784)]


class Images(BaseModel):
    """Images as MNIST has them: 784 pixels each, 0 to 255, white on black."""

    pixels: Annotated[
        list[
            Annotated[
                list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=784, max_length=784)
            ]
        ],
        Field(min_length=1, max_length=MAX_IMAGES),
    ]


def digits(batch: np.ndarray) -> list[Digit]:
    probabilities = model.predict_proba(batch)
    return [Digit(label=int(row.argmax()), probability=float(row.max())) for row in probabilities]


@app.post("/digits")
def read_images(images: Annotated[Images, Body()]) -> list[Digit]:
    # A plain function: FastAPI runs it in a thread, so a large batch keeps nobody waiting.
    return digits(np.array(images.pixels, np.uint8))


@app.post("/digit")
async def read_picture(request: Request) -> Digit:
    """A PNG or JPEG file as the body."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise HTTPException(413, f"at most {MAX_BYTES} bytes")
    try:
        async with pictures:
            image = await asyncio.to_thread(
                lambda: fastdigit.normalize(decode(bytes(body), max_pixels=16_000_000))
            )
    except InputError as error:
        raise HTTPException(400, str(error)) from error
    # One image takes less time than going to a thread and back.
    return digits(image[np.newaxis])[0]
