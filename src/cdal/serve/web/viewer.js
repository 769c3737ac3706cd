/**
 * The viewer of a case: NiiVue for volumes, our own canvas for pictures, OpenSeadragon for slides.
 *
 * Every viewer has:
 *   layers          names of the layers that it can show, of image, mask, probability, uncertainty
 *   setOpacity(layer, opacity)
 *   setClass(number)            whose probability is shown
 *   outlines        true if the mask is shown by outlines, which need not let the image through
 *   close()
 * Those of volumes and pictures also have:
 *   size, spacing   voxels along x, y, z and their sides; labels and values are in this order
 *   voxel           volume of a voxel in the unit of the case
 *   window          {low, high, min, max} of the image, and setWindow(low, high)
 *   votes           how many votes there are
 *   mask()          Promise of the model's label map, `Uint8Array`
 *   reviewed()      Promise of the corrected one
 *   vote(k)         Promise of the label map of one vote
 *   probability(n)  Promise of {values, scale}: the probability of class n is values * scale
 *   show(labels, box)  shows a label map; call it again after it has changed. Pictures draw only
 *                   `box` anew, [left, top, right, bottom], if it is given
 *   paint           {down, move, up} called with ({point, axis}), or null while nothing is painted
 *   cursor()        {point, axis}: where the keyboard is; move(dx, dy, dz) moves it
 *   encode(labels)  Promise of a Blob, as the server takes corrections
 */
export async function openViewer(root, theCase) {
  const modules = { volume: './volume.js', picture: './picture.js', slide: './slide.js' }
  const { open } = await import(modules[theCase.kind])
  root.replaceChildren()
  return open(root, theCase)
}
