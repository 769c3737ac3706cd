/**
 * Segment the selected annotation with a model of `cdal serve`, in QuPath 0.5 and newer.
 *
 * Select an annotation, set the three values below, and run the script (Automate > Script editor).
 * Objects inside the annotation's box are added as annotations with their classes; holes are kept.
 *
 * Not run in QuPath when it was written: every method that it calls was looked up in the sources of
 * 0.5.0, 0.5.1, 0.6.0 and 0.7.0, and its request and the reply to it are tested without QuPath.
 */
import java.awt.geom.AffineTransform
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.nio.charset.StandardCharsets
import java.nio.file.Files
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObjectTools
import qupath.lib.regions.RegionRequest

def address = 'http://127.0.0.1:8000'  // of the server
def model = 'monuseg'                  // a name of its /v1/models
def token = ''                         // its --token, if it has one

def roi = getSelectedROI()
if (roi == null) {
    println 'Select an annotation first.'
    return
}
def server = getCurrentServer()
def request = RegionRequest.createInstance(server.getPath(), 1.0, roi)
def picture = Files.createTempFile('cdal', '.png')
def reply
try {
    writeImageRegion(server, request, picture.toString())
    def boundary = 'cdal' + UUID.randomUUID().toString()
    def body = new ByteArrayOutputStream()
    def write = { String text -> body.write(text.getBytes(StandardCharsets.UTF_8)) }
    write("--${boundary}\r\nContent-Disposition: form-data; name=\"save\"\r\n\r\ngeojson\r\n")
    write("--${boundary}\r\nContent-Disposition: form-data; name=\"file\"; ")
    write('filename="region.png"\r\nContent-Type: image/png\r\n\r\n')
    body.write(Files.readAllBytes(picture))
    write("\r\n--${boundary}--\r\n")
    def builder = HttpRequest.newBuilder(URI.create("${address}/v1/predict/${model}"))
        .version(HttpClient.Version.HTTP_1_1)
        .header('Content-Type', "multipart/form-data; boundary=${boundary}".toString())
        .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray()))
    if (token) {
        builder.header('Authorization', "Bearer ${token}".toString())
    }
    reply = HttpClient.newHttpClient().send(builder.build(), HttpResponse.BodyHandlers.ofByteArray())
} finally {
    Files.deleteIfExists(picture)
}
if (reply.statusCode() != 200) {
    def why = new String(reply.body(), StandardCharsets.UTF_8)
    println "The server refuses (${reply.statusCode()}): ${why}"
    return
}
def move = AffineTransform.getTranslateInstance(request.getX(), request.getY())
def found = PathIO.readObjectsFromGeoJSON(new ByteArrayInputStream(reply.body()))
addObjects(found.collect { PathObjectTools.transformObject(it, move, true) })
println "${found.size()} objects"
