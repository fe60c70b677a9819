// What the camera wrote into a photograph (EXIF in JPEG and HEIC): when it was taken, and by which camera.

import { bytesOf } from "/static/api.js";

const MARK = [0x45, 0x78, 0x69, 0x66, 0, 0]; // "Exif", before the block
const ORDERS = { 0x49492a00: true, 0x4d4d002a: false }; // whether numbers begin with their small end
const MODEL = 0x0110, INNER = 0x8769, TAKEN = 0x9003, OFFSET = 0x9011;
const TIME = /^(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)/;

/** Metadata of a file, `{taken_at, camera}`, without what it does not tell: as `pictoglot import` reads it. */
export async function readPhoto(file) {
  const content = await bytesOf(file);
  try {
    const block = findBlock(content);
    if (!block) return {};
    const outer = readTags(block, block.number(4, 4));
    const inner = outer[INNER] ? readTags(block, outer[INNER].number) : {};
    const taken = TIME.exec(inner[TAKEN]?.text ?? "");
    const date = taken && `${taken[1]}-${taken[2]}-${taken[3]}T${taken[4]}`;
    const offset = /^[+-](0\d|1[0-4]):[0-5]\d$/.exec(inner[OFFSET]?.text ?? "")?.[0] ?? "";
    const camera = outer[MODEL]?.text;
    return { ...(Date.parse(date) && taken[1] >= "1000" ? { taken_at: date + offset } : {}), ...(camera ? { camera } : {}) };
  } catch {
    return {}; // damaged: whoever sends the file will be told
  }
}

function findBlock(buffer) {
  const bytes = new Uint8Array(buffer);
  const view = new DataView(buffer);
  for (let at = bytes.indexOf(MARK[0]); at >= 0 && at + 14 < bytes.length; at = bytes.indexOf(MARK[0], at + 1)) {
    if (!MARK.every((byte, place) => bytes[at + place] === byte)) continue;
    const start = at + MARK.length;
    const little = ORDERS[view.getUint32(start)];
    if (little === undefined) continue; // a HEIC names the block before it comes
    return { bytes: bytes.subarray(start), number: (place, size) => (size === 2 ? view.getUint16(start + place, little) : view.getUint32(start + place, little)) };
  }
  return null;
}

/** The tags of one directory, each as a number and, where it is one, as a text. */
function readTags({ bytes, number }, place) {
  const tags = {};
  for (let at = place + 2, left = number(place, 2); left > 0; left -= 1, at += 12) {
    const [kind, count] = [number(at + 2, 2), number(at + 4, 4)];
    const start = count > 4 ? number(at + 8, 4) : at + 8;
    tags[number(at, 2)] = { number: number(at + 8, 4), text: kind === 2 ? new TextDecoder().decode(bytes.subarray(start, start + Math.min(count, 200))).replaceAll(/\p{C}/gu, "").trim() : "" };
  }
  return tags;
}
