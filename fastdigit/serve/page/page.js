// Draws strokes, sends board or photograph to /read and, if it shows one digit, to /predict, and shows what comes back.
"use strict";

const board = document.getElementById("board");
const pen = board.getContext("2d", { willReadFrequently: true });
const seen = document.getElementById("seen").getContext("2d");
const answer = document.getElementById("answer");
const time = document.getElementById("time");
const bars = document.getElementById("bars");
const fields = document.getElementById("fields");
const WIDTH = 16; // of a stroke; MNIST's are about a tenth of the digit
const STEP = 8; // of the pen when moved by keys
const MAX_SIDE = 1600; // a larger picture is shrunk before it is sent
const MAX_EXACT = 512 * 512; // pixels of a picture that is sent as PNG; a larger one as JPEG, of a fraction of the bytes
const START = { x: board.width / 2, y: 70, down: false };

let last = null; // where the pen is, while it is down
let cursor = { ...START }; // the keyboard's pen
let boxes = []; // of what was read, in pixels of the board: {label, left, top, right, bottom}; a field has no label
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
  boxes.forEach(outline);
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

function outline({ label, left, top, right, bottom }) {
  pen.lineWidth = 1.5;
  pen.strokeStyle = pen.fillStyle = label === undefined ? "#1f77b4" : "#d62728";
  const edge = label === undefined ? 3 : 0; // a field is around its digits
  pen.strokeRect(left - edge, top - edge, right - left + 2 * edge, bottom - top + 2 * edge);
  if (label === undefined) return;
  const size = Math.min(Math.max(11, 0.4 * (bottom - top)), 28);
  pen.font = `${size}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "bottom";
  // Above the digit, or below it where there is no room.
  pen.fillText(label, (left + right) / 2, top - 4 > size ? top - 4 : bottom + 4 + size);
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
  cursor = { ...START };
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
  const x = (ink.width - width) / 2;
  const y = (ink.height - height) / 2;
  strokes.drawImage(picture, x, y, width, height);
  paint();
  const scale = Math.min(1, MAX_SIDE / side);
  const copy = document.createElement("canvas");
  copy.width = Math.max(1, Math.round(picture.width * scale));
  copy.height = Math.max(1, Math.round(picture.height * scale));
  const copied = copy.getContext("2d");
  const exact = copy.width * copy.height <= MAX_EXACT;
  if (!exact) {
    copied.fillStyle = "#fff"; // JPEG has no transparency
    copied.fillRect(0, 0, copy.width, copy.height);
  }
  copied.drawImage(picture, 0, 0, copy.width, copy.height);
  send({ canvas: copy, kind: exact ? "image/png" : "image/jpeg", x, y, scale: width / copy.width });
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

// What is sent is {canvas, kind}; its pixels are shown at (x, y) of the board, `scale` times as large.
function ask() {
  send({ canvas: ink, kind: "image/png", x: 0, y: 0, scale: 1 });
}

async function post(path, body) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(path, { method: "POST", body, headers });
  const result = await response.json();
  if (response.status === 401) document.getElementById("token-form").hidden = false;
  return { ok: response.ok, status: response.status, result };
}

async function send(picture) {
  if (busy) {
    pending = picture;
    return;
  }
  busy = true;
  const number = ++asked;
  const tell = (...what) => number === asked && show(...what);
  try {
    // Not by toBlob: Chromium does that when it is idle, which on a busy machine was seen to take seconds.
    const encoded = atob(picture.canvas.toDataURL(picture.kind, 0.95).split(",")[1]);
    const body = Uint8Array.from(encoded, (letter) => letter.charCodeAt(0));
    const began = performance.now();
    const found = await post("read", body);
    const digits = found.ok ? found.result.lines.flat().flatMap((field) => field.digits) : [];
    if (digits.length > 1) tell(found.result, null, performance.now() - began, picture);
    else if (!found.ok && found.status !== 413) tell(null, found.result.error);
    else {
      // One digit, or what may be one: what the network says of it, whichever is served.
      const one = await post("predict", body);
      if (one.ok) tell(one.result, null, performance.now() - began);
      else tell(null, one.result.error);
    }
  } catch {
    tell(null, "The server does not answer");
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

function element(name, kind, text = "") {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

function percent(value) {
  return `${(100 * value).toFixed(1)} %`;
}

// `result` is what /predict answers, or /read, then with the picture that it was asked about.
function show(result, problem = null, took = 0, picture = null) {
  const one = picture === null ? result : null;
  document.getElementById("network").hidden = bars.hidden = picture !== null;
  fields.hidden = picture === null;
  fields.replaceChildren();
  boxes = [];
  time.textContent = "";
  seen.clearRect(0, 0, 28, 28);
  showBars(one);
  if (picture !== null) showReading(result, took, picture);
  else if (one) showDigit(one, took);
  else answer.textContent = problem ?? "Nothing drawn yet";
  paint();
}

function showBars(result) {
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
        row.append(element("span", "name", name), track, element("span", "percent"));
        return row;
      }),
    );
  }
  [...bars.children].forEach((row, i) => {
    row.classList.toggle("best", result !== null && i === result.label);
    row.querySelector(".fill").style.transform = `scaleX(${values[i]})`;
    row.querySelector(".percent").textContent = result ? percent(values[i]) : "";
  });
}

function showDigit(result, took) {
  answer.replaceChildren("It is a ", element("strong", "", result.class));
  const inference = result.inference_microseconds / 1000;
  time.textContent = `${inference.toFixed(2)} ms network, ${took.toFixed(0)} ms in all`;
  const image = seen.createImageData(28, 28);
  result.image.flat().forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
  seen.putImageData(image, 0, 0);
}

function showReading(result, took, { x, y, scale }) {
  answer.replaceChildren("It says ", element("strong", "", result.text));
  const shown = (box, label) => {
    const [top, bottom, left, right] = box.map((edge) => edge * scale);
    return { label, left: x + left, top: y + top, right: x + right, bottom: y + bottom };
  };
  for (const field of result.lines.flat()) {
    const row = document.createElement("li");
    row.append(element("span", "name", field.text), element("span", "percent", percent(field.probability)));
    fields.append(row);
    boxes.push(shown(field.box), ...field.digits.map((digit) => shown(digit.box, digit.label)));
  }
  const rest = result.left_out.length ? `; ${result.left_out.length} fields were too much to read` : "";
  time.textContent = `${(result.read_microseconds / 1000).toFixed(0)} ms to read, ${took.toFixed(0)} ms in all${rest}`;
}

clear();
