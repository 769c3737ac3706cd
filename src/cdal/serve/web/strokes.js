/** Strokes of the mouse, a pen or a finger on a canvas, while the viewer's `paint` is set. */

/**
 * @param {HTMLElement} canvas
 * @param {{paint: ?Object}} viewer whose `paint` gets the strokes.
 * @param {function(PointerEvent): ?{point: number[], axis: number}} pick what is under the pointer.
 */
export function followStrokes(canvas, viewer, pick) {
  let plane = null
  const end = () => {
    if (plane) viewer.paint?.up()
    plane = null
  }
  canvas.addEventListener('pointerdown', (event) => {
    const place = viewer.paint && event.button === 0 && pick(event)
    if (!place) return
    event.preventDefault()  // no mouse events follow, so that the viewer does not move
    canvas.setPointerCapture(event.pointerId)
    canvas.focus()
    plane = place
    viewer.paint.down(place)
  })
  canvas.addEventListener('pointermove', (event) => {
    const place = plane && pick(event)
    if (place?.axis !== plane?.axis) return
    if (place && place.point[place.axis] === plane.point[place.axis]) viewer.paint?.move(place)
  })
  canvas.addEventListener('pointerup', end)
  canvas.addEventListener('pointercancel', end)
  canvas.addEventListener('touchstart', (event) => {
    if (viewer.paint) event.stopImmediatePropagation()
  }, { capture: true })
}
