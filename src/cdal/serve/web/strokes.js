/** Strokes of the mouse, a pen or a finger on a canvas, while something is painted. */

/**
 * @param {HTMLElement} canvas
 * @param {function(): ?Object} paint the viewer's `paint`, which gets the strokes; null if none.
 * @param {function(PointerEvent): ?{point: number[], axis: number}} pick what is under the pointer.
 */
export function followStrokes(canvas, paint, pick) {
  let plane = null
  const end = () => {
    if (plane) paint()?.up()
    plane = null
  }
  canvas.addEventListener('pointerdown', (event) => {
    const place = paint() && event.button === 0 && pick(event)
    if (!place) return
    event.preventDefault()  // no mouse events follow, so that the viewer does not move
    canvas.setPointerCapture(event.pointerId)
    canvas.focus()
    plane = place
    paint().down(place)
  })
  canvas.addEventListener('pointermove', (event) => {
    const place = plane && pick(event)
    if (place?.axis !== plane?.axis) return
    if (place && place.point[place.axis] === plane.point[place.axis]) paint()?.move(place)
  })
  canvas.addEventListener('pointerup', end)
  canvas.addEventListener('pointercancel', end)
  canvas.addEventListener('touchstart', (event) => {
    if (paint()) event.stopImmediatePropagation()
  }, { capture: true })
}
