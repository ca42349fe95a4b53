// Draws strokes, sends the board to /predict as a PNG, and shows what comes back.
"use strict";

const board = document.getElementById("board");
const pen = board.getContext("2d", { willReadFrequently: true });
const seen = document.getElementById("seen").getContext("2d");
const answer = document.getElementById("answer");
const time = document.getElementById("time");
const bars = document.getElementById("bars");
const WIDTH = 22; // of a stroke; MNIST's are about a tenth of the digit
const STEP = 8; // of the pen when moved by keys
const MAX_SIDE = 1024; // a larger picture is shrunk before it is sent

let last = null; // where the pen is, while it is down
let cursor = { x: 140, y: 70, down: false }; // the keyboard's pen
let drawn = false;
let token = null;
let showCursor = false;

// ---- Drawing ----

// Strokes live on a canvas of their own, so that the keyboard's pen can be shown over them.
const ink = document.createElement("canvas");
ink.width = board.width;
ink.height = board.height;
const strokes = ink.getContext("2d");
strokes.lineCap = strokes.lineJoin = "round";
strokes.lineWidth = WIDTH;

function paint() {
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, board.width, board.height);
  pen.drawImage(ink, 0, 0);
  if (showCursor) {
    pen.beginPath();
    pen.arc(cursor.x, cursor.y, WIDTH / 2, 0, 2 * Math.PI);
    pen.lineWidth = 2;
    pen.strokeStyle = "#0b62c4";
    pen.fillStyle = cursor.down ? "#0b62c4" : "transparent";
    pen.fill();
    pen.stroke();
  }
}

function stroke(from, to) {
  strokes.strokeStyle = "#000";
  strokes.beginPath();
  strokes.moveTo(from.x, from.y);
  strokes.lineTo(to.x + 0.01, to.y); // a line of no length would not be drawn, and a dot is one
  strokes.stroke();
  drawn = true;
  paint();
  ask();
}

function clear() {
  strokes.clearRect(0, 0, ink.width, ink.height);
  drawn = false;
  last = null;
  cursor = { x: 140, y: 70, down: false };
  pending = null;
  asked += 1; // an answer that is on its way is about what is gone
  paint();
  show(null);
}

function place(event) {
  const box = board.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left - board.clientLeft) * board.width) / board.clientWidth,
    y: ((event.clientY - box.top - board.clientTop) * board.height) / board.clientHeight,
  };
}

board.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  board.setPointerCapture(event.pointerId);
  showCursor = false;
  last = place(event);
  stroke(last, last);
});
board.addEventListener("pointermove", (event) => {
  if (last === null) return;
  for (const moved of event.getCoalescedEvents?.() ?? [event]) {
    const next = place(moved);
    stroke(last, next);
    last = next;
  }
});
for (const name of ["pointerup", "pointercancel"]) board.addEventListener(name, () => (last = null));

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
board.addEventListener("keydown", (event) => {
  const arrow = ARROWS[event.key];
  if (arrow) {
    const from = { ...cursor };
    const inside = (value) => Math.min(Math.max(value, WIDTH / 2), board.width - WIDTH / 2);
    cursor.x = inside(cursor.x + STEP * arrow[0]);
    cursor.y = inside(cursor.y + STEP * arrow[1]);
    showCursor = true;
    if (cursor.down) stroke(from, cursor);
  } else if (event.key === " " || event.key === "Enter") {
    cursor.down = !cursor.down;
    showCursor = true;
    if (cursor.down) stroke(cursor, cursor);
  } else return;
  event.preventDefault();
  paint();
});
board.addEventListener("focus", () => {
  showCursor = board.matches(":focus-visible");
  paint();
});
board.addEventListener("blur", () => {
  showCursor = cursor.down = false;
  paint();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") clear();
});
document.getElementById("clear").addEventListener("click", clear);

// ---- Pictures ----

async function open(file) {
  clear();
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return show(null, "This is no picture that the browser can read");
  }
  const side = Math.max(picture.width, picture.height);
  const shown = Math.min(board.width / picture.width, board.height / picture.height);
  const width = picture.width * shown;
  const height = picture.height * shown;
  strokes.drawImage(picture, (ink.width - width) / 2, (ink.height - height) / 2, width, height);
  paint();
  const scale = Math.min(1, MAX_SIDE / side);
  const copy = document.createElement("canvas");
  copy.width = Math.max(1, Math.round(picture.width * scale));
  copy.height = Math.max(1, Math.round(picture.height * scale));
  copy.getContext("2d").drawImage(picture, 0, 0, copy.width, copy.height);
  send(copy);
}

document.getElementById("file").addEventListener("change", (event) => {
  if (event.target.files[0]) open(event.target.files[0]);
  event.target.value = "";
});
for (const name of ["dragenter", "dragover"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
for (const name of ["dragleave", "drop"])
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
  });
document.addEventListener("drop", (event) => {
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files[0]) open(event.clipboardData.files[0]);
});

// ---- Asking: one request at a time, then again if more was drawn meanwhile ----

let asked = 0;
let busy = false;
let pending = null;

function ask() {
  send(ink);
}

async function send(canvas) {
  if (busy) {
    pending = canvas;
    return;
  }
  busy = true;
  const number = ++asked;
  try {
    // Not by toBlob: Chromium does that when it is idle, which on a busy machine was seen to take seconds.
    const encoded = atob(canvas.toDataURL("image/png").split(",")[1]);
    const body = Uint8Array.from(encoded, (letter) => letter.charCodeAt(0));
    const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
    const began = performance.now();
    const response = await fetch("predict", { method: "POST", body, headers });
    const result = await response.json();
    const took = performance.now() - began;
    if (response.status === 401) document.getElementById("token-form").hidden = false;
    if (number === asked) {
      if (response.ok) show(result, null, took);
      else show(null, result.error);
    }
  } catch {
    if (number === asked) show(null, "The server does not answer");
  }
  busy = false;
  if (pending !== null) {
    const next = pending;
    pending = null;
    send(next);
  }
}

document.getElementById("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = document.getElementById("token").value;
  event.target.hidden = true;
  if (drawn) ask();
});

// ---- Showing ----

function element(name, kind) {
  const made = document.createElement(name);
  made.className = kind;
  return made;
}

function show(result, problem = null, took = 0) {
  const classes = result?.classes ?? [..."0123456789"];
  const given = result?.probabilities ?? classes.map(() => 0);
  // One sigmoid output is the probability of the second of two classes.
  const values = given.length < classes.length ? [1 - given[0], given[0]] : given;
  if (bars.children.length !== classes.length) {
    bars.replaceChildren(
      ...classes.map((name) => {
        const row = document.createElement("li");
        const track = element("div", "track");
        track.append(element("div", "fill"));
        row.append(element("span", "name"), track, element("span", "percent"));
        row.firstChild.textContent = name;
        return row;
      }),
    );
  }
  [...bars.children].forEach((row, i) => {
    row.classList.toggle("best", result !== null && i === result.label);
    row.querySelector(".fill").style.transform = `scaleX(${values[i]})`;
    row.querySelector(".percent").textContent = result ? `${(100 * values[i]).toFixed(1)} %` : "";
  });
  if (result) {
    const strong = document.createElement("strong");
    strong.textContent = result.class;
    answer.replaceChildren("It is a ", strong);
    const inference = result.inference_microseconds / 1000;
    time.textContent = `${inference.toFixed(2)} ms network, ${took.toFixed(0)} ms in all`;
    const image = seen.createImageData(28, 28);
    result.image.flat().forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
    seen.putImageData(image, 0, 0);
  } else {
    answer.textContent = problem ?? "Nothing drawn yet";
    time.textContent = "";
    seen.clearRect(0, 0, 28, 28);
  }
}

clear();
