// Stands in for the package "xmlbuilder2" in the bundle (see build.mjs): vtk.js writes files of its own format with it,
// which this page never does, and it needs Node's own modules.
export function create() {
  throw new Error("The reading page writes no XML.");
}
