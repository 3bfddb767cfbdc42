// Stands in for the package "dcmjs" in the bundle (see build.mjs). Cornerstone's metadata package asks it for the DICOM
// dictionary at start and for a parser when it is handed DICOM files. This page never hands it any: slices come as PNG,
// read by the portal. The real package is a fifth of the bundle and builds functions from text as soon as it is loaded,
// which a strict content policy refuses.
import log from "loglevel";

export { log };
export const constants = {};

// Cornerstone checks at start that the attributes in its own tables are keywords of the dictionary, which begin with a
// capital. Each gets a tag of its own; none is ever looked up in a file.
const tags = new Map();

function tagOf(keyword) {
  if (!tags.has(keyword)) {
    tags.set(keyword, `(0009,${(tags.size + 0x1000).toString(16).toUpperCase()})`);
  }
  return { tag: tags.get(keyword), name: keyword, vr: "UN", vm: "1" };
}

const isKeyword = (name) => typeof name === "string" && /^[A-Z]/.test(name);

const nameMap = new Proxy(
  {},
  {
    get: (target, name) => (isKeyword(name) ? tagOf(name) : undefined),
    getOwnPropertyDescriptor: (target, name) =>
      isKeyword(name) ? { configurable: true, enumerable: true, value: tagOf(name) } : undefined,
  },
);

class NoDicomParser {
  constructor() {
    throw new Error("The reading page shows PNG slices; DICOM files are read by the portal.");
  }
}

export default {
  async: { AsyncDicomReader: NoDicomParser },
  data: { DicomMetaDictionary: { dictionary: {}, nameMap } },
  utilities: { DicomMetadataListener: NoDicomParser },
};
