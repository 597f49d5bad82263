// SPDX-License-Identifier: Apache-2.0
package org.apache.cloudstack.api;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Properties;
import java.util.SortedMap;
import java.util.TreeMap;

/**
 * The commands of the API with their required parameters, read from commands.properties.
 */
public final class ApiCommands {

    private final SortedMap<String, List<String>> parameters = new TreeMap<>();

    private ApiCommands(Properties properties) {
        for (String command : properties.stringPropertyNames()) {
            String list = properties.getProperty(command).trim();
            parameters.put(command, list.isEmpty() ? List.of() : List.of(list.split("\\s*,\\s*")));
        }
    }

    public static ApiCommands load() {
        Properties properties = new Properties();
        try (InputStream in = ApiCommands.class.getResourceAsStream("/commands.properties")) {
            properties.load(in);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return new ApiCommands(properties);
    }

    public List<String> names() {
        return List.copyOf(parameters.keySet());
    }

    /** The required parameters of a command, or an exception that names the command if there is none such. */
    public List<String> required(String command) {
        List<String> required = parameters.get(command);
        if (required == null) {
            throw new IllegalArgumentException("unknown command '" + command + "'");
        }
        return required;
    }
}
